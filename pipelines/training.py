"""Run every stage of `dvc.yaml` as a Prefect task: `python -m pipelines.training`.

DVC determines the stages, their order and which of them have changed. Each task is one
`dvc repro --single-item`, so artifacts and `dvc.lock` are identical to those of `dvc repro`.
"""

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from prefect import flow, get_run_logger, task
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from facegan.core.errors import FaceganError
from facegan.params import load_params
from pipelines import report, storage
from pipelines.command import run_flow
from pipelines.dag import Step, listed, read_dag, stage_names, uncommitted
from pipelines.dvc_process import run_dvc
from pipelines.experiments import run_experiment
from pipelines.locks import Workspace, exclusive, gpu
from pipelines.overrides import key_and_value, override

ROOT = Path(__file__).resolve().parents[1]
ALWAYS = "register"  # has no outputs for DVC to check, and repairs drift of the registry


@task(task_run_name="{step.name}")
def run_stage(step: Step, workspace: Workspace, force: bool, pull: bool) -> State[Any]:
    """Bring one stage up to date. `Unchanged` and `Restored` mean that it did not run."""
    lacking = not all((workspace.repository / path).exists() for path in step.outs)
    command = ["repro", "--single-item", step.name] + ["--force"] * force
    command += ["--pull"] * (pull and lacking)
    with gpu(workspace) if step.needs_gpu else nullcontext(workspace) as locked:
        output = run_dvc(command, step.name, locked)
    if output.status != 0:
        return Failed(message=output.failure)
    name = "Unchanged" if output.unchanged else "Restored" if output.restored else "Completed"
    return Completed(name=name)


def run_stages(
    steps: list[Step], workspace: Workspace, force: bool, pull: bool, keep: bool
) -> State[Any]:
    """Run steps in order until one fails.

    Args:
        force: also run unchanged stages.
        pull: take results that are missing here from DVC's remote, which has to answer.
        keep: save the results as a DVC experiment, if there are new ones.
    """
    before = storage.read_lock(workspace)
    for step in steps:
        # A state instead of an exception: a failed stage is not a bug, and needs no traceback.
        forced = force or step.name == ALWAYS
        state = run_stage(step, workspace, forced, pull, return_state=True)
        if not state.is_completed():
            return state
    if keep and storage.read_lock(workspace) != before:
        return storage.save_experiment(workspace, steps)
    return Completed()


@flow(name="facegan-training")
def training(
    repository: Path = ROOT,
    overrides: dict[str, Any] | None = None,
    stages: list[str] | None = None,
    force: bool = False,
    push: bool = False,
    allow_uncommitted: bool = False,
) -> State[Any]:
    """Run the changed stages, and compare the result with the champion.

    Args:
        repository: directory of `dvc.yaml`.
        overrides: parameters by dotted key, such as {"train.lr": 0.0001}. The run is then a DVC
            experiment in a copy of the workspace, and registers a challenger.
        stages: which ones to run; by default all.
        force: also run unchanged stages.
        push: push DVC's cache and the run's experiment to the remotes.
        allow_uncommitted: run even if parameters or code are uncommitted, such as those left by
            an experiment, although the result can be promoted.
    """
    try:
        dag = read_dag(repository)
        steps = dag.choose(stages or [])
        if overrides:
            override(load_params(repository / "params.yaml"), overrides)
    except (DvcException, OSError, FaceganError) as error:
        return Failed(message=str(error))
    with exclusive(repository, dag.tmp_dir) as workspace:
        if changed := uncommitted(dag.inputs, repository):
            if not allow_uncommitted:
                advice = "commit or revert them, or allow them: --allow-uncommitted"
                return Failed(message=f"uncommitted changes of {listed(changed)}; {advice}")
            get_run_logger().warning("running with uncommitted changes of %s", listed(changed))
        done: list[Step] = []
        state = storage.pull(workspace, dag, dag.steps if overrides else steps)
        if state.is_completed() and overrides:
            name, targets = str(flow_run.name), stage_names(steps)
            state = run_experiment(name, overrides, targets, workspace, force, return_state=True)
        elif state.is_completed():
            state = run_stages(steps, workspace, force, pull=False, keep=not stages)
            done = steps if state.is_completed() else []
        if state.is_completed() and push:
            state = storage.push(workspace, dag)
        report.publish(done, workspace)  # after everything that can be lost
    return Completed() if state.is_completed() else Failed(message=state.message)


def read_options() -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m pipelines.training", description=__doc__)
    add = parser.add_argument
    add("--repository", type=lambda path: Path(path).resolve(), default=ROOT)
    add("--set", dest="overrides", type=key_and_value, action="append", default=[], metavar="K=V")
    add("--stage", dest="stages", action="append", help="run this one only; may be repeated")
    add("--force", action="store_true", help="also run unchanged stages")
    add("--push", action="store_true", help="push results to the remotes")
    help_uncommitted = "even if parameters or code are uncommitted"
    add("--allow-uncommitted", action="store_true", help=help_uncommitted)
    found = vars(parser.parse_args())
    return found | {"overrides": dict(found["overrides"])}


def main() -> None:
    """Run the flow once. The exit status is 1 if a stage fails."""
    parameters = read_options()
    run_flow(lambda: training(**parameters, return_state=True))


if __name__ == "__main__":
    main()
