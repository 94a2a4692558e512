"""The stages of `dvc.yaml`, as DVC sees them."""

import subprocess
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path

from dvc.dvcfile import PROJECT_FILE
from dvc.repo import Repo
from dvc.repo.reproduce import get_active_graph, plan_repro

from facegan.core.errors import FaceganError


@dataclass(frozen=True)
class Step:
    """A stage, or a `.dvc` file.

    Attributes:
        needs_gpu: whether it computes on the GPU, if there is one.
        report: command that prints a page of Markdown about the result, if there is one.
        is_import: whether DVC brings its data from elsewhere.
        deps: paths of what it reads, relative to the directory of `dvc.yaml`.
        outs: paths of what it writes; of a `.dvc` file, of its data.
    """

    name: str
    needs_gpu: bool = False
    report: str | None = None
    is_import: bool = False
    deps: tuple[str, ...] = ()
    outs: tuple[str, ...] = ()

    @property
    def is_file(self) -> bool:
        """Whether it is a `.dvc` file, which has data and no command."""
        return self.name.endswith(".dvc")


@dataclass(frozen=True)
class Dag:
    """What `dvc repro` visits.

    Attributes:
        steps: `.dvc` files and stages, in DVC's order.
        inputs: files and folders that a person edits: `dvc.yaml`, parameters and code. What DVC
            tracks is none, because DVC records its changes.
        has_remote: whether DVC has a default remote.
        tmp_dir: DVC's folder for files that are in no commit.
    """

    steps: list[Step]
    inputs: list[str]
    has_remote: bool
    tmp_dir: Path

    def choose(self, names: list[str]) -> list[Step]:
        """Return the steps of these names, in DVC's order; all if there are none.

        Raises:
            FaceganError: if there is no such stage.
        """
        known = [step.name for step in self.steps]
        if unknown := [name for name in names if name not in known]:
            raise FaceganError(f"stages: {unknown[0]!r}: unknown; valid: {', '.join(known)}")
        return [step for step in self.steps if step.name in names or not names]


def read_dag(repository: Path) -> Dag:
    """Read `dvc.yaml` and the `.dvc` files.

    Raises:
        DvcException: if there is no DVC repository or no valid `dvc.yaml`.
        FaceganError: if `repository` is not a directory, or has no `dvc.yaml`.
    """
    if not (repository / PROJECT_FILE).is_file():
        raise FaceganError(f"{repository}: no {PROJECT_FILE}; name a project: --repository FOLDER")
    with chdir(repository), Repo() as repo:  # a stage's address is relative to the directory
        graph = get_active_graph(repo.index.graph)
        plan = plan_repro(graph, repo.stage.collect(PROJECT_FILE))
        deps = {dep.fs_path for stage in plan for dep in stage.deps}
        outs = {out.fs_path for stage in plan for out in stage.outs}
        steps = [
            Step(
                stage.addressing,
                needs_gpu=bool((stage.meta or {}).get("gpu")),
                report=(stage.meta or {}).get("report"),
                is_import=stage.is_import,
                deps=tuple(relpath(dep.fs_path) for dep in stage.deps if dep.protocol == "local"),
                outs=tuple(relpath(out.fs_path) for out in stage.outs),
            )
            for stage in plan
        ]
        has_remote = bool(repo.config["core"].get("remote"))
        return Dag(steps, sorted({PROJECT_FILE, *deps - outs}), has_remote, Path(repo.tmp_dir))


def missing_inputs(dag: Dag, steps: Sequence[Step], repository: Path) -> list[str]:
    """Return the paths that DVC must bring before these steps run: data, results of other steps."""
    made = {out for step in steps if not step.is_file for out in step.outs}
    brought = {out for step in dag.steps for out in step.outs} - made
    wanted = {path for step in steps for path in (step.outs if step.is_file else step.deps)}
    return sorted(
        path
        for path in wanted
        if any(Path(path).is_relative_to(out) for out in brought)
        and not (repository / path).exists()
    )


def stage_names(steps: Sequence[Step]) -> list[str]:
    """Return the names of those that are stages, not `.dvc` files."""
    return [step.name for step in steps if not step.is_file]


def git(repository: Path, *arguments: str) -> str:
    """Return what git prints, or "" where there is no git."""
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    return done.stdout.rstrip()


def uncommitted(paths: list[str], repository: Path) -> list[str]:
    """Return the files below `paths` that differ from git's last commit; [] without git."""
    status = git(repository, "status", "--porcelain", "--untracked-files=all", "--", *paths)
    return [line[3:] for line in status.splitlines()]


def listed(paths: Sequence[str]) -> str:
    """Name the first of the files, and how many more there are."""
    return f"{paths[0]}{f' and {len(paths) - 1} more' * (len(paths) > 1)}"
