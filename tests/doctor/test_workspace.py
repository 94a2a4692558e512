import os
import shlex
from pathlib import Path

import pytest

from facegan.doctor import workspace
from facegan.tracking.commands import output


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git and DVC repository with one commit, as the current folder."""
    monkeypatch.chdir(tmp_path)
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "a")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "a@example.com")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    for command in ("git init -q", "dvc init -q", "git add -A", "git commit -qm start"):
        assert output(*command.split()) == (0, "")
    return tmp_path


def test_a_committed_project_is_fine_for_git_and_a_changed_one_is_not(project: Path) -> None:
    assert workspace.git().status == "ok"
    (project / "params.yaml").touch()
    finding = workspace.git()
    assert finding.status == "warning" and "1 uncommitted file" in finding.found


def test_without_a_commit_or_a_name_git_gets_a_warning(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_COMMITTER_NAME", "")
    assert "user.name" in workspace.git().advice
    (project / ".git" / "HEAD").write_text("ref: refs/heads/new\n")
    assert workspace.git().found == "no commit yet"


def test_a_folder_without_git_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    finding = workspace.git()
    assert finding.status == "problem" and "not a git repository" in finding.found
    assert str(tmp_path) in finding.found and "git init" in finding.advice


def test_git_that_is_not_installed_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert workspace.git().found == "git is not installed"


def test_a_folder_without_a_dvc_project_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no dvc.yaml" in workspace.dvc().found
    (tmp_path / "dvc.yaml").touch()
    finding = workspace.dvc()
    assert finding.status == "problem" and "dvc init" in finding.advice


def test_dvc_is_asked_for_its_remote_and_whether_that_answers(project: Path) -> None:
    assert workspace.dvc().status == "warning"
    remote = project / "remote"
    assert output("dvc", "remote", "add", "--quiet", "--default", "storage", str(remote))[0] == 0
    finding = workspace.dvc()
    assert finding.status == "warning" and "dvc push" in finding.advice
    remote.mkdir()
    finding = workspace.dvc()
    assert finding.status == "ok" and finding.found == "remote storage answers, and is empty"


@pytest.mark.faults
def test_half_a_result_of_an_interrupted_dvc_is_a_problem_with_its_cure(
    project: Path,
) -> None:
    (project / "in").write_text("1")
    (project / "dvc.yaml").write_text("stages: {a: {cmd: cp in out, deps: [in], outs: [out]}}\n")
    assert output("dvc", "repro", "-q") == (0, "")
    (whole,) = project.glob(".dvc/cache/runs/*/*/*")
    half = whole.with_name(".Zk9vQx.tmp")
    half.write_text(whole.read_text().partition("outs:")[0])
    assert workspace.dvc().status == "warning"  # it may be in work
    os.utime(half, (0, 0))
    os.utime(whole, (-1, -1))
    (project / "dvc.lock").unlink()
    assert "'outs'" in output("dvc", "repro")[1]
    mend(project)
    (folder,) = project.glob(".dvc/cache/runs/*/*")
    (folder / whole.name).unlink()
    os.utime(folder, (0, 0))
    (project / "dvc.lock").unlink()
    assert "'NoneType'" in output("dvc", "repro")[1]
    mend(project)


def mend(project: Path) -> None:
    """Do as doctor advises."""
    finding = workspace.dvc()
    assert finding.status == "problem"
    assert output(*shlex.split(finding.advice.removeprefix("run: ")))[0] == 0
    assert output("dvc", "repro", "-q") == (0, "")
    assert workspace.dvc().status == "warning"


def test_little_space_is_a_warning_and_none_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    absent = tmp_path / "checkpoints" / "below"
    monkeypatch.setattr(workspace, "ENOUGH", 0)
    assert workspace.disk(absent).status == "ok"
    monkeypatch.setattr(workspace, "ENOUGH", 10**18)
    assert workspace.disk(absent).status == "warning"
    monkeypatch.setattr(workspace, "LEAST", 10**18)
    finding = workspace.disk(absent)
    assert finding.status == "problem" and "facegan gc" in finding.advice


def test_a_disk_without_room_for_files_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "ENOUGH", 0)
    monkeypatch.setattr(workspace, "FEWEST_FILES", 10**18)
    assert "inodes" in workspace.disk(tmp_path).found


@pytest.mark.parametrize(
    ("lock", "status", "text"),
    [
        ("numpy==0.1 \\\n    --hash=sha256:0\n", "warning", "instead of 0.1"),
        ("numpy==0.1\nnumpy=={numpy}\nabsent-package==1.0\n", "ok", "1 packages as locked"),
        (None, "warning", "not found"),
    ],
)
def test_installed_versions_are_compared_with_the_lock(
    lock: str | None, status: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy

    monkeypatch.chdir(tmp_path)
    if lock is not None:
        (tmp_path / "requirements.lock").write_text(lock.replace("{numpy}", numpy.__version__))
    finding = workspace.packages()
    assert finding.status == status and text in finding.found


def test_a_missing_package_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = ["numpy>=2", "absent-package[s3]>=1 ; python_version > '3'", "other ; extra == 'dev'"]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: lines)
    finding = workspace.packages()
    assert finding.status == "problem" and finding.found == "not installed: absent-package"


def test_a_damaged_configuration_of_dvc_is_a_problem(project: Path) -> None:
    (project / ".dvc" / "config").write_text("[core\n")
    finding = workspace.dvc()
    assert finding.status == "problem" and finding.advice == "correct .dvc/config"
