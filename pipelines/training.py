"""Run every stage of `dvc.yaml` as a Prefect task: `python -m pipelines.training`.

DVC knows the stages, their order and which of them have to run. Each is one
`dvc repro --single-item`, so artifacts and `dvc.lock` are those of `dvc repro`.
"""

import argparse
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Any

from dvc.commands.status import CmdDataStatus
from dvc.dvcfile import PROJECT_FILE
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.reproduce import get_active_graph, plan_repro
from prefect import flow, get_run_logger, task
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

ROOT = Path(__file__).resolve().parents[1]
ALWAYS = "register"  # has no outputs that DVC could check, and repairs drift of the registry
GRACE = 20  # seconds to save a checkpoint in; Prefect kills a cancelled run after 30


def stages(repository: Path) -> list[str]:
    """Return what `dvc repro` would visit, in its order: `.dvc` files and stages.

    Raises:
        DvcException: there is no DVC repository, no `dvc.yaml`, or it is not valid.
        OSError: `repository` is not a directory.
    """
    with chdir(repository), Repo() as repo:  # a stage's address is relative to the directory
        graph = get_active_graph(repo.index.graph)
        return [stage.addressing for stage in plan_repro(graph, repo.stage.collect(PROJECT_FILE))]


@contextmanager
def process(command: list[str], directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that does not outlive the block, nor do its children."""
    scripts = Path(sys.executable).parent  # `facegan`, also where the venv is not activated
    child = subprocess.Popen(
        command,
        cwd=directory,
        env=os.environ | {"PATH": f"{scripts}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        yield child
    except BaseException:  # Ctrl-C and a cancelled flow too
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(child.pid, signal.SIGTERM)
            rest, _ = child.communicate(timeout=GRACE)  # until the last of the group has ended
            for line in rest.splitlines():
                get_run_logger().info("%s", line)
        raise
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


@task(task_run_name="{stage}")
def run_stage(stage: str, repository: Path, force: bool) -> State[Any]:
    """Bring one stage up to date; `Unchanged` and `Restored` mean that it did not run."""
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", stage]
    logger = get_run_logger()
    name = "Completed"
    tail = deque([f"stage '{stage}'"], maxlen=2)  # its own last line, then DVC's
    with process(command + ["--force"] * force, repository) as child:
        assert child.stdout is not None
        for line in map(str.rstrip, child.stdout):
            if any(map(str.isalnum, line)):  # no blank lines, no frames
                logger.info("%s", line)
                tail.append(line)
            if line == f"Stage '{stage}' is cached - skipping run, checking out outputs":
                name = "Restored"
        failed = child.wait() != 0
    if failed:
        return Failed(message="; ".join(line.removeprefix("ERROR: ") for line in tail))
    if tail[-1] == CmdDataStatus.UP_TO_DATE_MSG:
        name = "Unchanged"
    return Completed(name=name)


@flow(name="facegan-training")
def training(repository: Path = ROOT, force: bool = False) -> State[Any]:
    """Run the stages that changed, or with `force` all, and compare with the champion."""
    try:
        names = stages(repository)
    except (DvcException, OSError) as error:
        return Failed(message=str(error))
    for stage in names:
        # States instead of exceptions: a stage that fails is no bug here, so no traceback.
        state = run_stage(stage, repository, force or stage == ALWAYS, return_state=True)
        if not state.is_completed():
            return Failed(message=state.message)
    return Completed()


def main() -> None:
    """Run the flow once; the exit status is not 0 when a stage failed."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.training", description=__doc__)
    parser.add_argument("--repository", type=Path, default=ROOT, help="the directory of dvc.yaml")
    parser.add_argument("--force", action="store_true", help="run the unchanged stages as well")
    arguments = parser.parse_args()
    for number in (signal.SIGHUP, signal.SIGTERM):  # as Ctrl-C: end the stage and the server too
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores SIGHUP: keep that
            signal.signal(number, signal.default_int_handler)
    try:
        state = training(arguments.repository.resolve(), arguments.force, return_state=True)
    except KeyboardInterrupt:
        sys.exit("stopped")
    if not state.is_completed():
        sys.exit(f"error: {state.message}")


if __name__ == "__main__":
    main()
