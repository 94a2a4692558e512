from pathlib import Path

import pytest

from facegan.core.errors import FaceganError
from facegan.core.project import in_project, project_root, stage_arguments


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in a repository, with an experiment's copy, as DVC makes them."""
    for name in ("DVC_ROOT", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    repository = tmp_path / "repository"
    for root in (repository, repository / ".dvc/tmp/exps/copy"):
        (root / ".dvc").mkdir(parents=True)
        (root / "faces" / "notebooks").mkdir(parents=True)
        (root / "faces" / "dvc.yaml").touch()
    return repository / "faces"


@pytest.fixture
def copy(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's folder in the copy, in the environment of an experiment's stage."""
    monkeypatch.setenv("DVC_EXP_NAME", "sour-newt")
    monkeypatch.setenv("DVC_ROOT", str(project.parent))
    return project.parent / ".dvc/tmp/exps/copy/faces"


@pytest.mark.parametrize("below", [".", "notebooks"])
def test_the_root_is_the_nearest_folder_with_a_dvc_yaml(
    project: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    monkeypatch.chdir(project / below)
    assert project_root() == project


def test_without_a_dvc_yaml_the_root_is_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert project_root() == tmp_path


@pytest.mark.parametrize("below", [".", "notebooks"])
def test_in_the_copy_of_an_experiment_the_root_is_the_original_project(
    project: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    monkeypatch.chdir(copy / below)
    assert project_root() == project


def test_in_an_experiment_in_the_workspace_the_root_is_the_workspace(
    project: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    assert project_root() == project


def test_relative_paths_in_the_copy_are_relative_to_the_original(
    project: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy)
    assert in_project(Path("a/b")) == project / "a/b"
    assert in_project(Path("../../a")) == project.parent.parent / "a"
    assert in_project(Path("/a")) == Path("/a")


@pytest.mark.parametrize("below", [".", "notebooks"])
def test_the_arguments_of_a_stage_are_paths_from_here(
    project: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    text = "stages:\n  train:\n    cmd: facegan train a/b 'c d'\n  train-b:\n    cmd: x\n"
    (project / "dvc.yaml").write_text(text)
    monkeypatch.chdir(project / below)
    found = [Path(argument).resolve() for argument in stage_arguments("train")]
    assert found == [project / "a/b", project / "c d"]
    with pytest.raises(FaceganError, match="no command of the stage score"):
        stage_arguments("score")


def test_a_missing_dvc_yaml_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FaceganError, match=r"dvc\.yaml: no command of the stage train"):
        stage_arguments("train")


def test_the_last_argument_of_this_projects_reference_stage_are_the_official_statistics() -> None:
    assert Path(stage_arguments("reference")[-1]).name == "official.safetensors"
