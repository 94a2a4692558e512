"""One trial of a sweep: DVC experiments with its parameters, one per rung and one to the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvc.exceptions import DvcException
from prefect import get_run_logger

from facegan.core.errors import FaceganError
from facegan.core.history import best_score
from pipelines.dag import Dag, stage_names
from pipelines.experiments import find, read_history, read_scores, run_experiment
from pipelines.locks import exclusive

if TYPE_CHECKING:
    from optuna import Trial

    from pipelines.study import Study

TRAIN, REGISTER = "train", "register"
EPOCHS = "train.epochs"


@dataclass(frozen=True)
class Runner:
    """Runs the trials of a sweep.

    Attributes:
        name: of the sweep, with which those of its experiments begin.
        rungs: epochs after which a trial may end early.
    """

    name: str
    repository: Path
    dag: Dag
    rungs: Sequence[int]

    def run(self, trial: "Trial", study: "Study") -> None:
        """Run a trial, and record its score or why it has none."""
        name, values = f"{self.name}-{trial.number}", study.suggest(trial)
        get_run_logger().info("trial %d: %s", trial.number, values)
        try:
            for epochs in self.rungs:
                quick_fid = self._quick_fid(f"{name}-{epochs}-epochs", values | {EPOCHS: epochs})
                if study.is_behind(trial, quick_fid, epochs):
                    study.end_early(trial, f"quick FID not among the best after {EPOCHS} {epochs}")
                    return
            stages = [stage for stage in stage_names(self.dag.steps) if stage != REGISTER]
            commit = self._experiment(name, values, stages)
            scores, events = self._scores(commit), read_history(self.repository, commit, TRAIN)
            study.score(trial, scores, events[0].get("fingerprint") if events else None)
        except (FaceganError, DvcException, OSError, ValueError, KeyError) as error:
            study.fail(trial, str(error) or type(error).__name__)

    def register(self, number: int, values: dict[str, Any]) -> str:
        """Register the generator of a trial as a challenger, and return the experiment's name.

        Raises:
            FaceganError: if that fails.
        """
        name = f"{self.name}-{number}-best"
        self._experiment(name, values, stage_names(self.dag.steps))
        return name

    def _quick_fid(self, name: str, values: dict[str, Any]) -> float:
        events = read_history(self.repository, self._experiment(name, values, [TRAIN]), TRAIN)
        return float(best_score(events)["quick_fid"])

    def _scores(self, commit: str) -> dict[str, Any]:
        scores = read_scores(self.repository, commit)
        if scores is None:
            raise FaceganError("no metric of dvc.yaml is a FID with its protocol")
        return scores

    def _experiment(self, name: str, values: dict[str, Any], stages: Sequence[str]) -> str:
        """Run an experiment, unless it is there, and return its commit."""
        if commit := find(self.repository, name):
            return commit
        with exclusive(self.repository, self.dag.tmp_dir) as workspace:
            state = run_experiment(name, values, stages, workspace, return_state=True)
        commit = find(self.repository, name)
        if commit is None:
            raise FaceganError(state.message or "DVC has kept no experiment")
        return commit
