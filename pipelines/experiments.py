"""Stages with other parameters, in a copy of the workspace: DVC experiments."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from dvc.repo.brancher import switch
from prefect import task
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from facegan.core.history import NAME
from facegan.core.parsing import parse_json
from pipelines.dag import git
from pipelines.dvc_process import run_dvc
from pipelines.locks import Workspace, gpu


@task(task_run_name="{name}")
def run_experiment(
    name: str,
    overrides: dict[str, Any],
    stages: Sequence[str],
    workspace: Workspace,
    force: bool = False,
) -> State[Any]:
    """Run stages, and those before them, with parameters of dotted keys replaced.

    Args:
        name: of the experiment.
        force: also run unchanged stages.
    """
    command = ["exp", "run", "--temp", "--name", name] + ["--force"] * force
    for key, value in overrides.items():
        command += ["--set-param", f"{key}={json.dumps(value, ensure_ascii=False)}"]
    with gpu(workspace) as locked:
        output = run_dvc([*command, *stages], "experiment", locked)
    return Completed() if output.status == 0 else Failed(message=output.failure)


def find(repository: Path, name: str) -> str | None:
    """Return the commit of a finished experiment; None if there is none of this name."""
    pattern = f"refs/exps/*/*/{name}"
    return git(repository, "for-each-ref", "--format", "%(objectname)", pattern) or None


def read_scores(repository: Path, commit: str) -> dict[str, Any] | None:
    """Return the metrics of an experiment that state their protocol; None if there are none.

    Raises:
        DvcException, OSError, ValueError: if they cannot be read.
    """
    with _outputs(repository, commit) as outputs:
        for out, path in outputs:
            if out.metric:
                scores: dict[str, Any] = parse_json(out.repo.dvcfs.read_text(path))
                if "protocol" in scores:
                    return scores
    return None


def read_history(repository: Path, commit: str, stage: str) -> list[dict[str, Any]]:
    """Return the events of the training in an experiment; [] if its stage has no history.

    Raises:
        DvcException, OSError, ValueError: if they cannot be read.
    """
    with _outputs(repository, commit) as outputs:
        for out, path in outputs:
            history = f"{path}/{NAME}"
            if out.stage.addressing.rpartition(":")[2] == stage and out.repo.dvcfs.exists(history):
                lines = out.repo.dvcfs.read_text(history).splitlines()
                return [parse_json(line) for line in lines]
    return []


@contextmanager
def _outputs(repository: Path, commit: str) -> Iterator[list[tuple[Any, str]]]:
    """The outputs of all stages in a commit, with their paths for DVC's file system."""
    with Repo(repository) as repo, switch(repo, commit):
        root = repo.root_dir
        yield [(out, repo.fs.relpath(out.fs_path, root)) for out in repo.index.outs]
