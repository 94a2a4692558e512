"""Data from DVC's remote, and what a run leaves behind: in that remote, and in git."""

from collections.abc import Sequence
from typing import Any

from prefect import task
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from pipelines.dag import Dag, Step, git, missing_inputs
from pipelines.dvc_process import BACK_OFF, run_dvc
from pipelines.locks import Workspace


@task(task_run_name="dvc {arguments[0]}", retries=len(BACK_OFF), retry_delay_seconds=BACK_OFF)
def transfer(arguments: list[str], workspace: Workspace) -> State[Any]:
    """Run a DVC command that needs remote storage, and try again if that fails."""
    output = run_dvc(arguments, arguments[0], workspace)
    return Completed() if output.status == 0 else Failed(message=output.failure)


def pull(workspace: Workspace, dag: Dag, steps: Sequence[Step]) -> State[Any]:
    """Bring what these steps need and DVC's remote has, and data whose source has changed."""
    missing = missing_inputs(dag, steps, workspace.repository)
    commands = [["pull", *missing]] if missing and dag.has_remote else []
    read = {path for step in steps for path in (*step.deps, *step.outs)}
    imports = [step.name for step in dag.steps if step.is_import and read.intersection(step.outs)]
    commands += [["update", name] for name in imports]
    return _transfer_all(commands, workspace)


def read_lock(workspace: Workspace) -> bytes:
    """Return `dvc.lock`, b"" if there is none."""
    path = workspace.repository / "dvc.lock"
    return path.read_bytes() if path.exists() else b""


def save_experiment(workspace: Workspace, steps: Sequence[Step]) -> State[Any]:
    """Keep `dvc.lock` and `params.yaml` as a DVC experiment of the flow run's name, if git can.

    Args:
        steps: whose results are there.
    """
    if not git(workspace.repository, "rev-parse", "--verify", "--quiet", "HEAD"):
        return Completed()
    command = ["exp", "save", "--force", "--name", str(flow_run.name)]
    command += [step.name for step in steps]
    output = run_dvc(command, "save", workspace)
    return Completed() if output.status == 0 else Failed(message=output.failure)


def push(workspace: Workspace, dag: Dag) -> State[Any]:
    """Push the cache and the run cache to DVC's remote, and this run's experiment to git's."""
    commands = []
    if dag.has_remote:
        commands.append(["push", "--run-cache"])
    remotes = git(workspace.repository, "remote").split()
    experiment = str(flow_run.name)
    saved = git(workspace.repository, "for-each-ref", f"refs/exps/*/*/{experiment}")
    if saved and remotes:
        remote = "origin" if "origin" in remotes else remotes[0]
        commands.append(["exp", "push", "--no-cache", remote, experiment])
    return _transfer_all(commands, workspace)


def _transfer_all(commands: list[list[str]], workspace: Workspace) -> State[Any]:
    for arguments in commands:
        state = transfer(arguments, workspace, return_state=True)
        if not state.is_completed():
            return state
    return Completed()
