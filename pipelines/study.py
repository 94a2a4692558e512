"""A sweep's trials in an Optuna journal: which one is next, and what became of each."""

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from facegan.core.parsing import parse_json
from pipelines.search_space import Choices, Sampler, Space
from pipelines.sweep_plan import REDUCTION

# Random trials before TPE draws its own. Optuna's 10 are all of a short sweep.
STARTUP = 5
# Attributes of a trial.
RETRIES, REASON, SCORES, FINGERPRINT = "retries", "reason", "scores", "fingerprint"


class Study:
    """The trials of one sweep. Which values a trial has depends on the seed and
    on the results before it, not on interruptions.

    Args:
        path: of the journal; its name is the sweep's.
    """

    def __init__(self, path: Path, space: Space, sampler: Sampler, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space, self.sampler, self.seed = space, sampler, seed
        _drop_incomplete_line(path)
        self.study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(path))),
            study_name=path.stem,
            sampler=RandomSampler(),
            load_if_exists=True,
        )

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the trials in these states, by default in all, in their order."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def next(self, total: int) -> Trial | None:
        """Return the unfinished trial, or else a new one; None if there are `total`."""
        for trial in self.trials(TrialState.RUNNING):
            self.study.sampler = self._sampler(trial.number)
            return Trial(self.study, trial._trial_id)  # the only way to take a trial up again
        if not self.trials(TrialState.WAITING):
            count = self._count(len(self.trials()))
            if count >= total:
                return None
            if self.sampler == "grid":
                self.study.enqueue_trial(grid(self.space)[count])
        self.study.sampler = self._sampler(len(self.trials()))
        return self.study.ask()

    def retry_failed(self) -> None:
        """Enqueue each failed trial again, unless that has been done."""
        retried = {trial.user_attrs.get(RETRIES) for trial in self.trials()}
        for trial in self.trials(TrialState.FAIL):
            if trial.number not in retried:
                self.study.enqueue_trial(trial.params, user_attrs={RETRIES: trial.number})

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """Return the values of a trial by dotted key; the same ones each time."""
        return {key: domain.suggest(trial, key) for key, domain in self.space.items()}

    def values(self, trial: FrozenTrial) -> dict[str, Any]:
        """Return the values of a trial, as far as they are drawn."""
        encoded = {key for key, domain in self.space.items() if isinstance(domain, Choices)}
        return {k: parse_json(v) if k in encoded else v for k, v in trial.params.items()}

    def is_behind(self, trial: Trial, quick_fid: float, epochs: int) -> bool:
        """Record a quick FID, and return whether the trial should end at this rung.

        The rule is that of asynchronous successive halving (Li et al. 2018, arXiv 1810.05934) and
        of Optuna's pruner, which answers otherwise if it is asked again after an interruption.
        """
        if epochs not in self.trials()[trial.number].intermediate_values:
            trial.report(quick_fid, epochs)
        recorded = [t.intermediate_values for t in self.trials()]
        fids = sorted(found[epochs] for found in recorded if epochs in found)
        return quick_fid > fids[max(len(fids) // REDUCTION, 1) - 1]

    def end_early(self, trial: Trial, reason: str) -> None:
        """Record that a trial was not among the best of its rung."""
        trial.set_user_attr(REASON, reason)
        self.study.tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: Trial, reason: str) -> None:
        """Record why a trial has no score."""
        trial.set_user_attr(REASON, reason)
        self.study.tell(trial, state=TrialState.FAIL)

    def score(self, trial: Trial, scores: dict[str, Any], fingerprint: str | None) -> None:
        """Record the official scores, unless they are not comparable with those before.

        Args:
            fingerprint: of the training.
        """
        protocol, fid = scores["protocol"], scores[scores["protocol"]["name"]]
        for other in self.trials(TrialState.COMPLETE):
            if other.user_attrs[SCORES]["protocol"] != protocol:
                self.fail(trial, f"scored under another protocol than trial {other.number}")
                return
        trial.set_user_attr(SCORES, scores)
        if fingerprint:
            trial.set_user_attr(FINGERPRINT, fingerprint)
        self.study.tell(trial, fid)

    def best(self) -> FrozenTrial | None:
        """Return the trial with the lowest official FID; None if none has one."""
        return min(self.trials(TrialState.COMPLETE), key=lambda t: t.values[0], default=None)

    def first_failure(self) -> str:
        """Say why the first failed trial failed."""
        failed = self.trials(TrialState.FAIL)
        return f"{failed[0].number}: {failed[0].user_attrs[REASON]}"

    def _count(self, before: int) -> int:
        """The number of trials before this one that are no retries."""
        return sum(RETRIES not in trial.user_attrs for trial in self.trials()[:before])

    def _sampler(self, number: int) -> BaseSampler:
        # A new one for each trial: a sampler's random numbers are not in the journal.
        seeds = np.random.SeedSequence([self.seed, self._count(number)])
        seed = int(seeds.generate_state(1)[0])
        if self.sampler == "tpe":
            return TPESampler(seed=seed, n_startup_trials=STARTUP)
        return RandomSampler(seed=seed)


def grid(space: Space) -> list[dict[str, Any]]:
    """Return all combinations of choices as Optuna stores them, the last key changing fastest."""
    texts = [domain.texts for domain in space.values() if isinstance(domain, Choices)]
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*texts)]


def _drop_incomplete_line(path: Path) -> None:
    """Drop what a full disk or a power cut left of a journal's last line: Optuna cannot read it."""
    if path.exists():
        complete, newline, rest = path.read_bytes().rpartition(b"\n")
        if rest:
            os.truncate(path, len(complete + newline))
