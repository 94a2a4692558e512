"""Runs the gate for a version, and records what it decided."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient

from facegan.core.errors import FaceganError
from facegan.params import Register
from facegan.register import files, history, registry, roles
from facegan.register.gate import Candidate, Champion, Decision, decide
from facegan.register.lineage import run_of
from facegan.register.registry import (
    APPROVED,
    CHALLENGER,
    CHAMPION,
    GATE,
    PROTOCOL,
    ROUNDS,
    SCORES,
    Registry,
    Version,
)
from facegan.register.scores import Scores
from facegan.tracking.connection import insist

if TYPE_CHECKING:  # most calls need no torch
    import torch

AWAITING = "awaiting approval"
MAX_DESCRIPTION = 5000  # characters that MLflow's database keeps
COMPARED = "facegan.compared"  # the champion that a version awaiting approval was compared with


@dataclasses.dataclass(frozen=True)
class Trial:
    """A version's trial: everything that the gate needs.

    Attributes:
        candidate: the gate's view of `content`.
        content: that of `metrics.json`.
        official: feature statistics for rescoring a champion of another protocol.
        choose_device: called where a champion is rescored.
        card: the model card, for the version's description.
    """

    client: MlflowClient
    settings: Register
    candidate: Candidate
    content: dict[str, Any]
    official: Path
    choose_device: "Callable[[], torch.device]"
    card: str

    @property
    def name(self) -> str:
        return self.settings.name

    def compare(self, champion: Version | None, keep: bool) -> Decision:
        """Compare with the champion.

        Args:
            keep: whether to record a champion's new scores.
        Raises:
            FaceganError: if the champion must be rescored and cannot be.
        """
        rival = None if champion is None else self._rival(champion, keep)
        decision = decide(self.candidate, rival, self.settings.policy)
        notes = list(decision.notes)
        if note := self.content["protocol"]["comparability_note"]:
            notes.append(note)
        if champion is not None and (reason := files.damage(champion)):
            notes.append(f"version {champion.number}: {reason}; {files.advice(champion)}")
        return dataclasses.replace(decision, notes=tuple(notes))

    def _rival(self, champion: Version, keep: bool) -> Champion:
        protocol = self.candidate.scores.protocol
        recorded = Scores.from_json(champion.tags.get(SCORES + protocol))
        before = champion.tags.get(PROTOCOL, "another protocol")
        if recorded is not None and recorded.comparable_with(self.candidate.scores):
            reason = f"was scored under {before}" if before != protocol else ""
            return Champion(champion.number, recorded, reason)
        from facegan.register.rescoring import rescore

        files.require_intact(champion)
        try:
            device = self.choose_device()
            scores = rescore(champion, self.content["protocol"], self.official, device)
        except FaceganError as error:
            text = f"{self.name} version {champion.number}: cannot be rescored: {error}"
            raise type(error)(text) from None
        if keep:
            number, text = str(champion.number), scores.to_json()
            insist(self.client.set_model_version_tag, self.name, number, SCORES + protocol, text)
        reason = f"was scored under {before}"
        images = self.candidate.scores.images
        if before == protocol and recorded is not None and recorded.images != images:
            counts = f"{recorded.images:,} images, not {images:,}"
            reason = f"had precision, recall and memorised from {counts}"
        elif before == protocol:
            reason = "had no valid scores on record"
        return Champion(champion.number, scores, reason)


def run(trial: Trial, number: int) -> None:
    """Decide on a version, and give it its role.

    It is compared with the champion of that moment: again, if another process promotes meanwhile.

    Raises:
        FaceganError: if the champion must be rescored and cannot be; the gate then runs again when
            the version is registered again.
    """
    client, name = trial.client, trial.name
    if "DVC_EXP_NAME" in os.environ:
        roles.challenge(client, name, number)
        _describe(trial, number, trial.card)
        return
    for _ in range(ROUNDS):
        before = registry.read(client, name)
        if before.champion is not None and before.champion.number == number:
            return  # another process promoted it, or a person
        decision = trial.compare(before.champion, keep=True)
        now = registry.read(client, name)
        if _number(now) != _number(before):
            continue
        if not decision.passed:
            roles.challenge(client, name, number)
            _record(trial, now, number, CHALLENGER, decision.reason, decision)
            return
        if trial.settings.approval == "manual" and not is_approved(now.versions[number]):
            _await(trial, now, number, decision)
            return
        roles.promote(client, now, number, "gate", decision.reason, _approver(now, number))
        _record(trial, now, number, CHAMPION, decision.reason, decision)
        roles.converge(client, name, number)
        if _number(after := registry.read(client, name)) == number:
            history.write(client, after)
            return
    raise FaceganError(f"{name}: other processes keep promoting; register again")


def _number(found: Registry) -> int | None:
    return None if found.champion is None else found.champion.number


def is_approved(version: Version) -> bool:
    return version.tags.get(APPROVED, "").strip().lower() not in ("", "no", "false", "0")


def _approver(found: Registry, number: int) -> str:
    by = found.versions[number].tags.get(APPROVED, "")
    return f"{roles.user()}, approved by {by}" if by else ""


def _await(trial: Trial, found: Registry, number: int, decision: Decision) -> None:
    champion = _number(found)
    roles.challenge(trial.client, trial.name, number)
    tag = str(champion or "")
    insist(trial.client.set_model_version_tag, trial.name, str(number), COMPARED, tag)
    reason = f"{decision.reason}; approve: facegan models approve {number}, or tag {APPROVED}: yes"
    _record(trial, found, number, AWAITING, reason, decision)


def is_decided(version: Version) -> bool:
    """Whether the gate need not run: it has decided, and is not waiting for an approval."""
    text = version.tags.get(GATE, "")
    return bool(text) and not (text.startswith(AWAITING) and is_approved(version))


def _record(
    trial: Trial, found: Registry, number: int, role: str, reason: str, decision: Decision
) -> None:
    """Write a decision to description, run and, last, the tag: without it, the gate runs again."""
    client, version = trial.client, found.versions[number]
    champion = found.champion
    rules = [f"- {'passed' if r.passed else 'FAILED'}: {r.explanation}" for r in decision.rules]
    record = {
        "model": trial.name, "version": number, "role": role, "reason": reason,
        "rules": [dataclasses.asdict(rule) for rule in decision.rules],
        "notes": decision.notes, "scores": dataclasses.asdict(trial.candidate.scores),
        "champion": champion and champion.number, "who": roles.user(),
        "when": roles.now().isoformat(), "policy": trial.settings.policy.model_dump(),
    }  # fmt: skip
    text = json.dumps(record, indent=2) + "\n"
    if run_of(client, version) is not None:
        client.log_text(version.run, text, f"gate/version-{number}.json")
    _describe(trial, number, "\n".join([f"{role}: {reason}", "", *rules, "", trial.card]))
    roles.record_decision(client, version, f"{role}: {reason}")


def _describe(trial: Trial, number: int, text: str) -> None:
    trial.client.update_model_version(trial.name, str(number), text[:MAX_DESCRIPTION])


def explain(decision: Decision) -> list[str]:
    """The rules as lines for the user."""
    rules = [(rule, "passed" if rule.passed else "FAILED") for rule in decision.rules]
    return [*(f"{word} {rule.name}: {rule.explanation}" for rule, word in rules), *decision.notes]
