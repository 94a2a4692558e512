"""Where a training comes from, in a real git repository."""

import subprocess
from pathlib import Path

import pytest

from facegan.tracking import provenance


@pytest.fixture(name="repository")
def make_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "a")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "a@example.com")
    (tmp_path / "src").mkdir()
    (tmp_path / "src/code.py").write_text("lr = 1\n")
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    (tmp_path / "data.dvc").write_text("outs:\n- md5: abc.dir\n  path: data\n")
    (tmp_path / "dvc.lock").write_text(
        "stages:\n  preprocess:\n    outs:\n    - path: artifacts/dataset\n      md5: def.dir\n"
    )
    git("init", "--quiet", "--initial-branch", "main")
    git("remote", "add", "origin", "https://me:tell-no-one@example.com/faces.git")
    git("add", "--all")
    git("commit", "--quiet", "--message", "start")
    return tmp_path


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_tags_name_commit_data_and_what_started_it(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "flow-1")
    tags = provenance.tags("cpu")
    assert tags["mlflow.source.git.commit"] == git("rev-parse", "HEAD")
    assert tags["mlflow.source.git.branch"] == "main"
    assert tags["mlflow.source.git.repoURL"] == "https://***@example.com/faces.git"
    assert tags["facegan.dirty"] == "false"
    assert tags["facegan.dvc.data.data"] == "abc.dir"
    assert tags["facegan.dvc.preprocess.dataset"] == "def.dir"
    assert tags["facegan.prefect_flow_run"] == "flow-1"
    assert "facegan.dvc_experiment" not in tags


def test_a_clean_checkout_has_no_diff(repository: Path) -> None:
    provenance.write_files(repository / "files")
    names = {path.name for path in (repository / "files").iterdir()}
    assert names == {"params.yaml", "data.dvc", "dvc.lock", "requirements.txt"}
    assert "torch==" in (repository / "files/requirements.txt").read_text()


def test_the_diff_has_changed_and_new_code_and_no_secrets(repository: Path) -> None:
    (repository / "src/code.py").write_text("lr = 2\nAPI_KEY = 'tell-no-one'\n")
    (repository / "src/new.py").write_text("url = 'https://me:tell-no-one@host/'\n")
    (repository / ".env").write_text("ANYTHING=tell-no-one\n")
    (repository / "notes.txt").write_text("tell-no-one\n")
    assert provenance.tags("cpu")["facegan.dirty"] == "true"
    provenance.write_files(repository / "files")
    diff = (repository / "files" / provenance.DIFF).read_text()
    assert "+lr = 2" in diff and "new.py" in diff and "+API_KEY = '***" in diff
    assert "tell-no-one" not in diff


def test_outside_of_a_repository_what_is_unknown_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    tags = provenance.tags("cpu")
    assert "facegan.host" in tags and "mlflow.source.git.commit" not in tags
    assert "facegan.dirty" not in tags
    assert provenance.uncommitted() == ""
