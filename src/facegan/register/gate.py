"""The promotion gate: the rules that a version must pass to become champion, in their order.

The numbers are `register.policy` in `params.yaml`. `decide` is a function of its arguments alone;
`promotion` records what it returns.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facegan.core.history import NAME, read_history
from facegan.params import Policy
from facegan.register.scores import Scores

# An honest generator exceeds the limit of memorised samples by chance once in so many times.
CHANCE = 1000
# In evaluate's warning that the FIDs against held-out and training photographs differ.
OVERFITS = "overfits its training photographs"
# An FID of 0 comes out slightly negative; of what is more negative than this, none is.
ROUNDING = 0.1


@dataclass(frozen=True)
class Rule:
    """One rule's result, with the numbers that it rests on."""

    name: str
    passed: bool
    explanation: str


@dataclass(frozen=True)
class Candidate:
    """What the gate knows of the version that wants to become champion.

    Attributes:
        untrained: FID before the first step.
        untrained_variance: its squared standard error.
        pretrained: whether the training started from the networks of another one.
        images_seen: at the snapshot.
        collapse: why the training had collapsed at the snapshot; empty if it had not.
        dtype: of the features.
        overfits: evaluate's warning, with the FIDs against held-out and training photographs; empty
            without.
    """

    scores: Scores
    untrained: float
    untrained_variance: float
    pretrained: bool
    images_seen: int
    collapse: str
    dtype: str
    overfits: str = ""


@dataclass(frozen=True)
class Champion:
    """The champion that a candidate is compared with.

    Attributes:
        scores: under the candidate's protocol.
        rescored: why the scores that it was registered with are not these; empty if they are.
    """

    version: int
    scores: Scores
    rescored: str


@dataclass(frozen=True)
class Decision:
    """Whether a version becomes champion, and the results of all rules.

    Attributes:
        notes: that the version overfits, and the checks that it did without.
    """

    rules: tuple[Rule, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return all(rule.passed for rule in self.rules)

    @property
    def reason(self) -> str:
        """One line: what failed, or what the version was better than, and the notes."""
        failed = [rule for rule in self.rules if not rule.passed]
        decisive = failed or [rule for rule in self.rules if rule.name in ("better", "rescored")]
        return "; ".join([*(rule.explanation for rule in decisive), *self.notes])


def decide(candidate: Candidate, champion: Champion | None, policy: Policy) -> Decision:
    """Apply the rules to a candidate.

    Args:
        champion: None if the registered model has none.
    """
    scores = candidate.scores
    rules = [_scored(scores), _sound(candidate, policy), _original(scores, policy)]
    if champion is None:
        rules.append(Rule("better", True, f"{scores.metric} {scores.fid:g}: no other champion"))
    else:
        rules += [_diverse(scores, champion, policy), _better(scores, champion, policy)]
        rules += _rescored(champion)
    return Decision(tuple(rules), tuple(_notes(candidate)))


def _scored(scores: Scores) -> Rule:
    text = f"scored as {scores.metric} under protocol {scores.protocol}, for this generator"
    return Rule("scored", True, text)  # `read_metrics` refuses all others


def _sound(candidate: Candidate, policy: Policy) -> Rule:
    """Finite, not collapsed, and better than before the first step by more than noise.

    Where that network was untrained, a few steps change its FID by far more than the noise of
    latents, and its images stay noise: the least progress is a share of its FID.
    """
    scores, seen = candidate.scores, f"at {candidate.images_seen:,} images seen"
    before = candidate.untrained + candidate.untrained_variance
    noise = policy.noise * math.sqrt(scores.variance + candidate.untrained_variance)
    least = 0.0 if candidate.pretrained else policy.min_progress * candidate.untrained
    text = ""
    if not math.isfinite(scores.fid + scores.variance):
        text = f"{scores.metric} {scores.fid} ± {scores.spread} is not finite"
    elif not math.isfinite(before):
        text = f"{candidate.untrained} before the first step, or its spread, is not finite"
    elif scores.fid < -ROUNDING:
        text = f"{scores.metric} {scores.fid:g} is negative, which no FID is"
    elif candidate.collapse:
        text = f"the training had collapsed {seen}: {candidate.collapse}"
    elif candidate.images_seen == 0:
        text = "the best snapshot is the network before the first step"
    elif candidate.untrained - scores.fid <= (needed := max(noise, least)):
        text = (
            f"{scores.metric} {scores.fid:g} is not better than {candidate.untrained:g} before "
            f"the first step by more than noise (needs {needed:.3g} less); train longer"
        )
    sound = f"{scores.fid:g} is finite, below {candidate.untrained:g} before the first step"
    return Rule("sound", not text, text or f"{sound}; no collapse {seen}")


def _original(scores: Scores, policy: Policy) -> Rule:
    """Memorised samples at most their limit, or what chance explains with few held-out images."""
    if scores.memorised is None:
        return Rule("original", True, "memorised samples were not counted")
    limit = policy.max_memorised
    if scores.held_out:
        # The share is distributed as Beta(1, m) where the closest of m held-out images decides.
        limit = max(limit, 1 - (1 / CHANCE) ** (1 / scores.held_out))
    text = (
        f"memorised is {scores.memorised:g}; valid: at most {limit:.3g} with "
        f"{scores.held_out:,} held-out images"
    )
    return Rule("original", scores.memorised <= limit, text)


def _diverse(scores: Scores, champion: Champion, policy: Policy) -> Rule:
    """Neither recall nor precision below the champion's by more than their limit."""
    limits = {"recall": policy.max_recall_drop, "precision": policy.max_precision_drop}
    lines, passed = [], True
    for name, limit in limits.items():
        ours, theirs = getattr(scores, name), getattr(champion.scores, name)
        if ours is None or theirs is None:
            lines.append(f"{name} was not computed")
            continue
        passed &= ours >= theirs - limit
        verb = "at least" if ours >= theirs - limit else "below"
        lines.append(
            f"{name} {ours:g} is {verb} version {champion.version}'s {theirs:g} - {limit:g}"
        )
    return Rule("diverse", passed, "; ".join(lines))


def _better(scores: Scores, champion: Champion, policy: Policy) -> Rule:
    """FID lower by more than `min_improvement`, and by more than noise."""
    theirs = champion.scores
    difference = theirs.fid - scores.fid
    noise = policy.noise * math.sqrt(scores.variance + theirs.variance)
    needed = max(noise, policy.min_improvement * theirs.fid)
    other = f"version {champion.version}'s {theirs.fid:g}"
    if difference > needed:
        return Rule("better", True, f"{scores.metric} {scores.fid:g} beats {other}")
    ours = f"{scores.metric} {scores.fid:g}"
    if abs(difference) <= needed:
        text = f"{ours} is not distinguishable from {other} (needs {needed:.3g} less)"
        return Rule("better", False, text)
    return Rule("better", False, f"{ours} does not beat {other}")


def _rescored(champion: Champion) -> list[Rule]:
    if not champion.rescored:
        return []
    text = (
        f"version {champion.version} {champion.rescored}; under {champion.scores.protocol} "
        f"it has {champion.scores.fid:g}"
    )
    return [Rule("rescored", True, text)]


def _notes(candidate: Candidate) -> Iterator[str]:
    scores = candidate.scores
    if candidate.overfits:
        yield candidate.overfits
    if candidate.dtype != "float32":
        yield f"fewer checks: features in {candidate.dtype}"
    if scores.memorised is None or not scores.held_out:
        yield "fewer checks: no score for memorised, so nothing says whether it copies photographs"
    if scores.precision is None or scores.recall is None:
        yield "fewer checks: no precision and recall"


def read_candidate(content: dict[str, Any], trained: Path) -> Candidate:
    """The gate's view of what `read_metrics` returns, and of the training in the folder `trained`.

    Raises:
        FaceganError: if the training's history cannot be read.
    """
    seen = content["images_seen"]
    events = read_history(trained / NAME)
    collapses = (
        event["reason"]
        for event in events
        if event["event"] == "collapse" and event["images_seen"] == seen
    )
    pretrained = events[0]["train"].get("init_from") is not None
    scores = Scores.from_metrics(content)
    # From one set of latents, unless it is close to the trained one's.
    count = len(content.get("untrained_fids", [None]))
    spread = content.get("untrained_spread", scores.spread)
    return Candidate(
        scores, content["untrained"], spread * spread / count, pretrained, seen,
        next(collapses, ""), content["protocol"]["dtype"],
        next((text for text in content.get("warnings", []) if OVERFITS in text), ""),
    )  # fmt: skip
