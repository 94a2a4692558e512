"""What is wrong with a sweep is said before anything runs."""

import re
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from facegan.core.errors import FaceganError
from flows import Environment
from pipelines.sweep import load_study
from pipelines.sweep_plan import Plan, make_plan

DVC_YAML = (
    "stages:\n  train: {cmd: cp data trained, deps: [data], params: [train], outs: [trained]}\n"
)


# DVC, in this process.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, environment: Environment) -> Path:
    root = tmp_path_factory.mktemp("project")
    digits = resources.files("facegan").joinpath("presets", "digits.yaml").read_text("utf-8")
    files = {"params.yaml": digits, "dvc.yaml": DVC_YAML, "data": "faces\n", ".dvc/config": ""}
    (root / ".dvc").mkdir()
    for name, text in files.items():
        (root / name).write_text(text)
    dvc = [sys.executable, "-m", "dvc"]
    commit(root, environment, ["git", "init", "-q"], [*dvc, "add", "-q", "data"])
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "project"))


def commit(root: Path, environment: Environment, *commands: list[str]) -> None:
    for command in (*commands, ["git", "add", "."], ["git", "commit", "-qm", "all"]):
        subprocess.run(command, cwd=root, env=environment, check=True)


def plan(root: Path, *search: str, **options: Any) -> Plan:
    defaults = {"trials": None, "sampler": "grid", "seed": 0, "halving_epochs": None}
    return make_plan(root, search or ["train.lr=0.1,0.2"], **{**defaults, **options})


def test_a_grid_has_all_its_combinations_or_as_many_as_asked_for(project: Path) -> None:
    search = ("train.lr=0.1,0.2", "seed=1,2,3")
    assert plan(project, *search).trials == 6
    assert plan(project, *search, trials=4).trials == 4
    assert plan(project, *search, trials=9).trials == 6
    assert plan(project, *search, trials=9, sampler="tpe").trials == 9


@pytest.mark.faults
def test_the_name_depends_on_all_that_decides_on_a_score(
    project: Path, environment: Environment
) -> None:
    first = plan(project)
    assert plan(project, trials=1).name == first.name  # more of the same
    others = [plan(project, "train.lr=0.1,0.3"), plan(project, seed=1)]
    others += [plan(project, sampler="random", trials=2), plan(project, halving_epochs=2)]
    (project / "README.md").write_text("A project\n")
    commit(project, environment)
    assert plan(project).name == first.name
    first.require_unchanged(project)
    path = project / "params.yaml"
    path.write_text(path.read_text("utf-8").replace("r1: 0.1", "r1: 0.2"))
    with pytest.raises(FaceganError, match=r"uncommitted changes of .*params\.yaml; commit"):
        first.require_unchanged(project)
    commit(project, environment)
    with pytest.raises(FaceganError, match="have changed"):
        first.require_unchanged(project)
    others.append(plan(project))
    (project / "data").write_text("other faces\n")
    commit(project, environment, [sys.executable, "-m", "dvc", "add", "-q", "data"])
    others.append(plan(project))
    assert len({first.name, *(other.name for other in others)}) == 7


def test_rungs_are_three_times_as_far_each_time(project: Path) -> None:
    assert plan(project, halving_epochs=1).rungs == [1, 3]  # of 9 epochs
    assert plan(project, halving_epochs=2).rungs == [2, 6]
    assert plan(project).rungs == []


@pytest.mark.parametrize(
    ("search", "options", "message"),
    [
        (["train.r1=0..1"], {}, "train.r1: a range; list values for a grid, or: --sampler random"),
        ([], {"sampler": "tpe"}, "trials: needed with sampler tpe, such as --trials 8"),
        ([], {"trials": 0}, "trials: 0: valid: 1 or more"),
        ([], {"seed": -1}, "seed: -1: valid: 0 or more"),
        ([], {"halving_epochs": 0}, "halving_epochs: 0: valid: 1 or more, below train.epochs: 9"),
        ([], {"halving_epochs": 9}, "halving_epochs: 9: valid: 1 or more, below train.epochs: 9"),
        (["train.epochs=3,9"], {"halving_epochs": 1}, "train.epochs: cannot be searched with"),
        (["train.quick_num_samples=50,60"], {"halving_epochs": 1}, "train.quick_num_samples: "),
    ],
)
def test_a_wrong_combination_is_one_line(
    project: Path, search: list[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(FaceganError, match=re.escape(message)) as error:
        plan(project, *search, **options)
    assert "\n" not in str(error.value)


def test_missing_data_and_a_missing_commit_are_one_line(
    project: Path, environment: Environment
) -> None:
    (project / "data").unlink()
    with pytest.raises(FaceganError, match=r"data is missing; bring it with: dvc pull"):
        plan(project)
    (project / "data").write_text("faces\n")
    subprocess.run(["rm", "-r", ".git"], cwd=project, check=True)
    subprocess.run(["git", "init", "-q"], cwd=project, env=environment, check=True)
    with pytest.raises(FaceganError, match="no commit in git; experiments need one"):
        plan(project)


def test_without_optuna_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "pipelines.study", raising=False)
    with pytest.raises(FaceganError, match=r"pip install 'facegan\[sweep\]'"):
        load_study()
