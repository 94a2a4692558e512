"""Run every stage of `dvc.yaml` as a Prefect task: `python -m pipelines.training`.

DVC determines the stages, their order and which of them have changed. Each task is one
`dvc repro --single-item`, so artifacts and `dvc.lock` are identical to those of `dvc repro`.
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
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

ROOT = Path(__file__).resolve().parents[1]
ALWAYS = "register"  # has no outputs for DVC to check, and repairs drift of the registry
GRACE = 20  # seconds for writing a checkpoint; Prefect kills a cancelled run after 30


def stages(repository: Path) -> tuple[list[str], list[str]]:
    """Return the `.dvc` files and stages that `dvc repro` visits, in its order, and its inputs.

    The inputs are the files and folders that a person edits: `dvc.yaml`, parameters and code.
    What DVC tracks is none, because DVC records its changes.

    Raises:
        DvcException: if there is no DVC repository or no valid `dvc.yaml`.
        OSError: if `repository` is not a directory.
    """
    with chdir(repository), Repo() as repo:  # a stage's address is relative to the directory
        graph = get_active_graph(repo.index.graph)
        plan = plan_repro(graph, repo.stage.collect(PROJECT_FILE))
        deps = {dep.fs_path for stage in plan for dep in stage.deps}
        outs = {out.fs_path for stage in plan for out in stage.outs}
        return [stage.addressing for stage in plan], sorted({PROJECT_FILE, *deps - outs})


def uncommitted(paths: list[str], repository: Path) -> list[str]:
    """Return the files below `paths` that differ from git's last commit; [] without git."""
    command = ["git", "status", "--porcelain", "--untracked-files=all", "--", *paths]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    return [line[3:] for line in done.stdout.splitlines()]


@contextmanager
def process(command: list[str], directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that ends with the block at the latest, and so do its children."""
    scripts = Path(sys.executable).parent  # has `facegan`, even if the venv is not activated
    child = subprocess.Popen(
        command,
        cwd=directory,
        env={
            **os.environ,
            "PATH": f"{scripts}:{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "PREFECT__FLOW_RUN_ID": flow_run.id or "",  # a tag of the MLflow run
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        yield child
    except BaseException:  # includes Ctrl-C and cancellation of the flow
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(child.pid, signal.SIGTERM)
            rest, _ = child.communicate(timeout=GRACE)  # until the whole group has ended
            for line in rest.splitlines():
                get_run_logger().info("%s", line)
        raise
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


@task(task_run_name="{stage}")
def run_stage(stage: str, repository: Path, force: bool) -> State[Any]:
    """Bring one stage up to date. `Unchanged` and `Restored` mean that it did not run."""
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", stage]
    logger = get_run_logger()
    name = "Completed"
    tail = deque([f"stage '{stage}'"], maxlen=2)  # the command's last line, then DVC's
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
def training(
    repository: Path = ROOT, force: bool = False, allow_uncommitted: bool = False
) -> State[Any]:
    """Run the changed stages (with `force`, all), and compare the result with the champion.

    With uncommitted parameters or code, such as those left by an experiment, it runs only with
    `allow_uncommitted`, because its result can be promoted.
    """
    try:
        names, inputs = stages(repository)
    except (DvcException, OSError) as error:
        return Failed(message=str(error))
    if changed := uncommitted(inputs, repository):
        files = f"{changed[0]}{f' and {len(changed) - 1} more' * (len(changed) > 1)}"
        if not allow_uncommitted:
            advice = "commit or revert them, or allow them: --allow-uncommitted"
            return Failed(message=f"uncommitted changes of {files}; {advice}")
        get_run_logger().warning("running with uncommitted changes of %s", files)
    for stage in names:
        # A state instead of an exception: a failed stage is not a bug, and needs no traceback.
        state = run_stage(stage, repository, force or stage == ALWAYS, return_state=True)
        if not state.is_completed():
            return Failed(message=state.message)
    return Completed()


def main() -> None:
    """Run the flow once. The exit status is 1 if a stage fails."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.training", description=__doc__)
    parser.add_argument("--repository", type=Path, default=ROOT, help="directory of dvc.yaml")
    parser.add_argument("--force", action="store_true", help="also run unchanged stages")
    parser.add_argument(
        "--allow-uncommitted",
        action="store_true",
        help="even if parameters or code are uncommitted",
    )
    arguments = parser.parse_args()
    for number in (signal.SIGHUP, signal.SIGTERM):  # as Ctrl-C: end the stage and the server
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores SIGHUP, and so do we
            signal.signal(number, signal.default_int_handler)
    try:
        repository = arguments.repository.resolve()
        options = (arguments.force, arguments.allow_uncommitted)
        state = training(repository, *options, return_state=True)
    except KeyboardInterrupt:
        sys.exit("interrupted")
    if not state.is_completed():
        sys.exit(f"error: {state.message}")


if __name__ == "__main__":
    main()
