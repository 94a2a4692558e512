"""What a sweep does, checked before anything runs."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facegan.core.errors import FaceganError
from facegan.params import load_params
from pipelines.dag import Dag, git, listed, missing_inputs, read_dag, uncommitted
from pipelines.search_space import Range, Sampler, Space, parse_space
from pipelines.trials import EPOCHS

# At each rung a third goes on, as in Hyperband (Li et al. 2018, arXiv 1603.06560).
REDUCTION = 3
# Searched, it changes what a quick FID means.
QUICK = "train.quick_num_samples"


@dataclass(frozen=True)
class Plan:
    """A sweep that has been checked.

    Attributes:
        name: a hash of the command and of what its trials read: the same command continues.
        trials: how many.
        rungs: epochs after which a trial may end early.
        inputs: blobs in git of all that the trials read.
        mlflow: what `facegan.tracking.sweep` reads, without trials.
    """

    name: str
    space: Space
    trials: int
    dag: Dag
    rungs: list[int]
    inputs: str
    mlflow: dict[str, Any]

    def require_unchanged(self, repository: Path) -> None:
        """Check that the next trial reads what the others did.

        Raises:
            FaceganError: if it does not.
        """
        if read_inputs(repository, self.dag) != self.inputs:
            text = "parameters, code or data have changed; with them, the command is a new sweep"
            raise FaceganError(f"{self.name}: {text}")


def make_plan(
    repository: Path,
    search: Sequence[str],
    trials: int | None,
    sampler: Sampler,
    seed: int,
    halving_epochs: int | None,
) -> Plan:
    """Check everything, and run nothing.

    Raises:
        FaceganError, DvcException, OSError: if something is wrong, with one line.
    """
    dag, params = read_dag(repository), load_params(repository / "params.yaml")
    space = parse_space(search, params)
    size = _check_sampler(space, trials, sampler, seed)
    if missing := missing_inputs(dag, dag.steps, repository):
        raise FaceganError(f"{listed(missing)} is missing; bring it with: dvc pull")
    inputs, rungs = read_inputs(repository, dag), list[int]()
    if halving_epochs is not None:
        _check_halving(space, halving_epochs, params.train.epochs)
        rungs = _rungs(halving_epochs, params.train.epochs)
    command = {"search": list(search), "sampler": sampler, "seed": seed, "rungs": rungs}
    digest = hashlib.sha256(json.dumps([command, inputs]).encode()).hexdigest()
    name = f"sweep-{digest[:8]}"
    shown = {key: str(value) for key, value in command.items()}
    mlflow = {"sweep": name, "experiment": params.register_.name, "params": shown}
    return Plan(name, space, size, dag, rungs, inputs, mlflow)


def read_inputs(repository: Path, dag: Dag) -> str:
    """Return the listing in git of all that experiments read, `.dvc` files included.

    Raises:
        FaceganError: if the workspace differs from the last commit, or there is none.
    """
    paths = [*dag.inputs, *(step.name for step in dag.steps if step.name.endswith(".dvc"))]
    listing = git(repository, "ls-tree", "-r", "HEAD", "--", *paths)
    if not listing:
        raise FaceganError(f"{repository}: no commit in git; experiments need one")
    if changed := uncommitted(paths, repository):
        raise FaceganError(f"uncommitted changes of {listed(changed)}; commit or revert them")
    return listing


def _check_sampler(space: Space, trials: int | None, sampler: Sampler, seed: int) -> int:
    """Return the number of trials."""
    if trials is not None and trials < 1:
        raise FaceganError(f"trials: {trials}: valid: 1 or more")
    if seed < 0:
        raise FaceganError(f"seed: {seed}: valid: 0 or more")
    if sampler != "grid":
        if trials is None:
            raise FaceganError(f"trials: needed with sampler {sampler}, such as --trials 8")
        return trials
    size = 1
    for key, domain in space.items():
        if isinstance(domain, Range):
            raise FaceganError(f"{key}: a range; list values for a grid, or: --sampler random")
        size *= len(domain.texts)
    return min(trials or size, size)


def _check_halving(space: Space, first: int, epochs: int) -> None:
    if not 1 <= first < epochs:
        raise FaceganError(f"halving_epochs: {first}: valid: 1 or more, below {EPOCHS}: {epochs}")
    for key in (EPOCHS, QUICK):
        if key in space:
            raise FaceganError(f"{key}: cannot be searched with halving_epochs, whose rungs it is")


def _rungs(first: int, epochs: int) -> list[int]:
    rungs = list[int]()
    while first < epochs:
        rungs.append(first)
        first *= REDUCTION
    return rungs
