"""Search for parameters: `python -m pipelines.sweep train.lr=0.0004,0.0008 train.r1=0.1,1`.

Each trial is a DVC experiment in a copy of the workspace. The same command again continues an
interrupted sweep. The best generator is registered as a challenger.

  KEY=VALUE,VALUE        these values
  KEY=LOW..HIGH          numbers between these, with --sampler random or tpe
  KEY=log:LOW..HIGH      the same, uniform in the logarithm
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from dvc.exceptions import DvcException
from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from facegan.core.errors import FaceganError
from pipelines.command import run_flow
from pipelines.locks import hold
from pipelines.search_space import Sampler
from pipelines.sweep_plan import Plan, make_plan
from pipelines.training import ROOT
from pipelines.trials import Runner

if TYPE_CHECKING:
    from pipelines.study import Study

FOLDER = "sweeps"  # in DVC's folder for what is in no commit


@flow(name="facegan-sweep")
def sweep(
    search: list[str],
    trials: int | None = None,
    sampler: Sampler = "grid",
    seed: int = 0,
    halving_epochs: int | None = None,
    retry_failed: bool = False,
    repository: Path = ROOT,
) -> State[Any]:
    """Search for the parameters with the lowest official FID, and register the best generator.

    Args:
        search: what to search, such as train.lr=0.0004,0.0008 or train.r1=log:0.01..1.
        trials: how many; by default the whole grid.
        sampler: grid, random, or tpe, Optuna's Tree-structured Parzen Estimator.
        seed: of the sampler, not of the trainings.
        halving_epochs: end a trial early whose quick FID is not among the best third after so many
            epochs, three times as many, and so on.
        retry_failed: run failed trials of an earlier run again.
        repository: directory of `dvc.yaml`.
    """
    try:
        plan = make_plan(repository, search, trials, sampler, seed, halving_epochs)
        study_type = load_study()
    except (DvcException, OSError, FaceganError) as error:
        return Failed(message=str(error))
    folder = plan.dag.tmp_dir / FOLDER
    folder.mkdir(exist_ok=True)
    with hold(folder / f"{plan.name}.lock", f"the sweep {plan.name}"):
        journal = folder / f"{plan.name}.journal"
        study = study_type(journal, plan.space, sampler, seed)
        if retry_failed:
            study.retry_failed()
        try:
            return _run(plan, study, Runner(plan.name, repository, plan.dag, plan.rungs))
        except FaceganError as error:
            return Failed(message=str(error))


def load_study() -> type["Study"]:
    """Return the class that needs Optuna.

    Raises:
        FaceganError: if it is not installed.
    """
    try:
        from pipelines.study import Study
    except ImportError:
        raise FaceganError("a sweep needs Optuna: pip install 'facegan[sweep]'") from None
    return Study


def _run(plan: Plan, study: "Study", runner: Runner) -> State[Any]:
    """Run what is unfinished, and register the best.

    Raises:
        FaceganError: if parameters or code have changed since, or no trial has a score.
    """
    from pipelines import sweep_report

    log = get_run_logger().info
    log("%s: %d trials", plan.name, plan.trials)
    while trial := study.next(plan.trials):
        plan.require_unchanged(runner.repository)
        runner.run(trial, study)
        sweep_report.show(plan.name, study, f"{plan.name} is running")
        sweep_report.mirror(runner.repository, plan.mlflow, study.trials()[trial.number :][:1])
    log("%s\n%s", plan.name, sweep_report.as_text(sweep_report.rows(study)))
    best = study.best()
    if best is None:
        failed = study.first_failure()
        raise FaceganError(f"no trial has a score; trial {failed}; --retry-failed runs it again")
    name = runner.register(best.number, study.values(best))
    values = ", ".join(f"{key}={value}" for key, value in study.values(best).items())
    accept = f"dvc exp apply {name} && dvc repro --single-item --force register"
    text = f"best: trial {best.number}: {values}; to let it pass the gate: {accept}"
    log("%s", text)
    sweep_report.show(plan.name, study, text)
    sweep_report.mirror(runner.repository, plan.mlflow, study.trials())
    return Completed(message=text)


def read_options() -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("search", nargs="+", metavar="KEY=...", help="seed, or a key of train")
    add("--trials", type=int, help="how many; default: the whole grid")
    add("--sampler", choices=get_args(Sampler), default="grid")
    add("--seed", type=int, default=0, help="of the sampler, not of the trainings")
    help_halving = "end a trial early that is not among the best third after N, 3 N, 9 N... epochs"
    add("--halving-epochs", type=int, metavar="N", help=help_halving)
    add("--retry-failed", action="store_true", help="run failed trials again")
    add("--repository", type=lambda path: Path(path).resolve(), default=ROOT)
    return vars(parser.parse_args())


def main() -> None:
    """Run the sweep, or what is left of it. The exit status is 1 if there is no best trial."""
    parameters = read_options()
    run_flow(lambda: sweep(**parameters, return_state=True))


if __name__ == "__main__":
    main()
