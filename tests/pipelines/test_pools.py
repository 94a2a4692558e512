"""Which commit a clean clone on a worker runs, and what parts of a training are valid."""

import subprocess
from pathlib import Path

import pytest

from facegan.core.errors import FaceganError
from flows import Copy, Environment
from pipelines import pools
from pipelines.dag import git, missing_inputs, read_dag
from pipelines.pools import Part, check, check_out


@pytest.fixture
def clone(
    copy: Copy, environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A shallow clone, as Prefect makes it, of a branch with two commits."""
    origin = copy()
    commit = ["git", "commit", "--quiet", "--allow-empty", "--message", "another"]
    subprocess.run(commit, cwd=origin, env=environment, check=True)
    command = ["git", "clone", "--quiet", "--depth", "1", f"file://{origin}", str(tmp_path / "c")]
    subprocess.run(command, env=environment, check=True)
    monkeypatch.setattr(pools, "ROOT", tmp_path / "c")
    return origin


def test_a_clone_is_brought_to_the_commit_with_which_the_run_began(clone: Path) -> None:
    first = git(clone, "rev-parse", "HEAD~1")
    check_out(first)
    assert git(pools.ROOT, "rev-parse", "HEAD") == first
    check_out(None)
    assert git(pools.ROOT, "rev-parse", "HEAD") == first


@pytest.mark.usefixtures("clone")
def test_a_commit_that_was_not_pushed_is_one_line() -> None:
    with pytest.raises(FaceganError, match=f"commit {'0' * 40}: git's remote does not have it"):
        check_out("0" * 40)


@pytest.mark.parametrize(
    "stages",
    [
        [["preprocess"], ["train", "evaluate"]],
        [["preprocess", "train"], ["train", "evaluate", "register"]],
        [["train", "preprocess"], ["evaluate", "register"]],
        [["preprocess", "train", "judge"], ["evaluate", "register"]],
    ],
    ids=["one is missing", "one is there twice", "wrong order", "unknown"],
)
@pytest.mark.usefixtures("clone")
def test_parts_have_each_stage_once_in_order(stages: list[list[str]]) -> None:
    with pytest.raises(FaceganError, match="valid: preprocess, train, evaluate, register"):
        check([Part(deployment="facegan-stages/cpu", stages=names) for names in stages])


def test_only_what_the_chosen_stages_read_is_brought(copy: Copy) -> None:
    root = copy()
    dag = read_dag(root)
    assert missing_inputs(dag, dag.steps, root) == []
    (root / "data" / "photograph").unlink()
    (root / "data").rmdir()
    assert missing_inputs(dag, dag.steps, root) == ["data"]
    assert missing_inputs(dag, dag.choose(["preprocess", "train"]), root) == ["data"]
    assert missing_inputs(dag, dag.choose(["train", "evaluate"]), root) == ["dataset"]
    (root / "dataset").touch()
    assert missing_inputs(dag, dag.choose(["train", "evaluate"]), root) == []
