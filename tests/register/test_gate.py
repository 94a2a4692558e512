"""The rules of the promotion gate."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import START, make_params
from facegan.evaluate.heldout import heldout_metrics
from facegan.features.frechet import FeatureMoments, Statistics
from facegan.register.gate import Candidate, Champion, Decision, Rule, decide, read_candidate
from facegan.register.scores import Scores

SCORES = Scores(
    protocol="p1", metric="fid2k_x", fid=50.0, spread=1.0, latents=3, images=2000, held_out=500,
    precision=0.6, recall=0.5, memorised=0.01,
)  # fmt: skip
CANDIDATE = Candidate(
    SCORES, untrained=900.0, untrained_variance=1.0, pretrained=False, images_seen=100,
    collapse="", dtype="float32",
)  # fmt: skip
POLICY = make_params(register={"policy": {"min_progress": 0.2}}).register_.policy


def decided(champion: dict[str, Any] | None = None, **changes: Any) -> Decision:
    """Compare a candidate of FID 50 with a champion of FID 60, each with `changes`."""
    own = {name: value for name, value in changes.items() if hasattr(CANDIDATE, name)}
    scores = {name: value for name, value in changes.items() if name not in own}
    candidate = dataclasses.replace(CANDIDATE, scores=dataclasses.replace(SCORES, **scores), **own)
    theirs = {"fid": 60.0, **(champion or {})}
    return decide(candidate, Champion(7, dataclasses.replace(SCORES, **theirs), ""), POLICY)


def failed(decision: Decision) -> list[str]:
    return [rule.name for rule in decision.rules if not rule.passed]


def test_a_version_that_passes_every_rule_says_so_for_each() -> None:
    decision = decided()
    assert decision.passed
    assert [rule.name for rule in decision.rules] == [
        "scored", "sound", "original", "diverse", "better",
    ]  # fmt: skip
    assert decision.reason == "fid2k_x 50 beats version 7's 60"
    assert not decision.notes


def test_every_rule_states_the_numbers_that_it_rests_on() -> None:
    assert [rule.explanation for rule in decided().rules] == [
        "scored as fid2k_x under protocol p1, for this generator",
        "50 is finite, below 900 before the first step; no collapse at 100 images seen",
        "memorised is 0.01; valid: at most 0.1 with 500 held-out images",
        "recall 0.5 is at least version 7's 0.5 - 0.1; "
        "precision 0.6 is at least version 7's 0.6 - 0.1",
        "fid2k_x 50 beats version 7's 60",
    ]
    assert all(rule.passed is True for rule in decided().rules)


def test_without_a_champion_a_sound_version_passes() -> None:
    assert decide(CANDIDATE, None, POLICY).passed
    assert decide(CANDIDATE, None, POLICY).reason == "fid2k_x 50: no other champion"
    copier = dataclasses.replace(CANDIDATE, scores=dataclasses.replace(SCORES, memorised=1.0))
    assert failed(decide(copier, None, POLICY)) == ["original"]


@pytest.mark.parametrize(
    ("changes", "rule", "explanation"),
    [
        ({"fid": float("nan")}, "sound", "fid2k_x nan ± 1.0 is not finite"),
        ({"spread": float("inf")}, "sound", "50.0 ± inf is not finite"),
        ({"untrained": float("nan")}, "sound", "nan before the first step, or its spread, is not"),
        ({"untrained_variance": float("nan")}, "sound", "or its spread, is not finite"),
        ({"fid": -2.0}, "sound", "fid2k_x -2 is negative, which no FID is"),
        ({"collapse": "all alike"}, "sound", "collapsed at 100 images seen: all alike"),
        ({"images_seen": 0}, "sound", "the best snapshot is the network before the first step"),
        ({"untrained": 51.0}, "sound", "50 is not better than 51 before the first step"),
        ({"untrained": 62.0}, "sound", "by more than noise (needs 12.4 less); train longer"),
        ({"untrained": 51.0, "pretrained": True}, "sound", "noise (needs 2.31 less); train longer"),
        ({"memorised": 0.2}, "original", "memorised is 0.2; valid: at most 0.1 with 500 held-out"),
        ({"recall": 0.39}, "diverse", "recall 0.39 is below version 7's 0.5 - 0.1"),
        ({"precision": 0.4}, "diverse", "precision 0.4 is below version 7's 0.6 - 0.1"),
        ({"fid": 70.0}, "better", "fid2k_x 70 does not beat version 7's 60"),
        ({"fid": 58.0, "spread": 2.0}, "better", "58 is not distinguishable from version 7's 60"),
    ],
)
def test_a_version_that_fails_a_rule_is_refused_with_its_numbers(
    changes: dict[str, Any], rule: str, explanation: str
) -> None:
    decision = decided(**changes)
    assert not decision.passed
    assert rule in failed(decision)
    assert explanation in decision.reason


def test_noise_of_a_few_steps_is_refused_unless_the_network_was_pretrained() -> None:
    """Up to 7,500 images, FIDs fell from 3983 to 3319 at most; samples were noise."""
    few_steps = {"fid": 3319.0, "untrained": 3983.0}
    assert failed(decided({"fid": 9999.0}, **few_steps)) == ["sound"]
    assert decided({"fid": 9999.0}, **few_steps, pretrained=True).passed
    exact: dict[str, Any] = {"spread": 0.0, "untrained_variance": 0.0, "pretrained": True}
    assert decided(untrained=50.1, **exact).passed
    assert decided({"fid": 9999.0}, fid=3016.0, untrained=3983.0).passed


def test_a_generator_that_copies_is_refused_whatever_its_fid() -> None:
    assert failed(decided(fid=0.5, memorised=0.9)) == ["original"]


def test_a_limit_itself_is_valid() -> None:
    assert decided(memorised=0.1).passed
    assert decided(recall=0.5 - 0.1, precision=0.6 - 0.1).passed
    assert decided(recall=0.5 - 0.1).rules[3].explanation.startswith("recall 0.4 is at least")
    assert decided(images_seen=1).passed
    assert decided(fid=-0.1).passed and decided(fid=0.0).passed


def test_what_was_not_counted_is_said() -> None:
    not_counted = Rule("original", True, "memorised samples were not counted")
    assert decided(memorised=None).rules[2] == not_counted
    no_copies = (
        "fewer checks: no score for memorised, so nothing says whether it copies photographs"
    )
    assert decided(memorised=None).notes == decided(held_out=0).notes == (no_copies,)
    assert decided(recall=None).notes == ("fewer checks: no precision and recall",)


def test_each_rule_says_yes_or_no() -> None:
    assert decided(images_seen=0).reason == "the best snapshot is the network before the first step"
    for fid in (59.9, 70.0):  # not distinguishable, and worse
        assert decided(fid=fid).rules[-1].passed is False


def test_an_fid_that_is_no_lower_is_not_better_whatever_the_policy() -> None:
    numbers = ("noise", "min_improvement", "min_progress")
    lenient = POLICY.model_copy(update=dict.fromkeys(numbers, 0.0))
    decision = decide(CANDIDATE, Champion(7, SCORES, ""), lenient)
    assert failed(decision) == ["better"]
    as_untrained = dataclasses.replace(CANDIDATE, untrained=50.0)
    assert failed(decide(as_untrained, None, lenient)) == ["sound"]
    assert decision.reason == (
        "fid2k_x 50 is not distinguishable from version 7's 50 (needs 0 less)"
    )


@pytest.mark.parametrize(
    ("variance", "untrained", "passes"),
    # Twice the standard error of the difference: 2 * sqrt(1 / 3 + variance).
    [(1.0, 52.3, False), (1.0, 52.32, True), (4.0, 54.1, False), (4.0, 54.2, True)],
)
def test_a_generator_is_better_than_the_untrained_one_by_more_than_noise(
    variance: float, untrained: float, passes: bool
) -> None:
    decision = decided(untrained=untrained, untrained_variance=variance, pretrained=True)
    assert failed(decision) == ([] if passes else ["sound"])


def test_the_least_of_precision_and_recall_decides() -> None:
    for changes in ({"recall": 0.3}, {"precision": 0.3}, {"recall": None, "precision": 0.3}):
        assert failed(decided(**changes)) == ["diverse"]
    assert failed(decided({"precision": None}, recall=0.3)) == ["diverse"]
    explained = decided(recall=None).rules[3].explanation
    assert explained.startswith("recall was not computed; precision 0.6 is at least")


@pytest.mark.parametrize(("held_out", "limit"), [(5, 0.7488), (20, 0.2920), (60, 0.1087)])
def test_honest_generators_exceed_the_limit_of_memorised_samples_once_in_a_thousand(
    held_out: int, limit: float
) -> None:
    # By the smallest of m uniform numbers, 1 - (1 - limit)^m = 0.999.
    assert decided(held_out=held_out, memorised=limit - 1e-4).passed
    assert failed(decided(held_out=held_out, memorised=limit + 1e-4)) == ["original"]


def test_without_held_out_images_the_policys_limit_holds() -> None:
    assert decided(held_out=0, memorised=0.1).passed
    assert failed(decided(held_out=0, memorised=0.11)) == ["original"]


@pytest.mark.parametrize(("held_out", "memorised"), [(5, 0.5), (20, 0.25), (60, 0.1)])
def test_few_held_out_images_explain_memorised_samples_but_not_copies(
    held_out: int, memorised: float
) -> None:
    assert decided(held_out=held_out, memorised=memorised).passed
    assert failed(decided(held_out=held_out, memorised=1.0)) == ["original"]


@pytest.mark.parametrize(
    ("spreads", "fid", "passes"),
    [
        # Twice the standard error of the difference: 2 * sqrt(s1^2 / 3 + s2^2 / 3).
        ((3.0, 0.0), 60 - 3.4, False),
        ((3.0, 0.0), 60 - 3.5, True),
        ((3.0, 4.0), 60 - 5.7, False),
        ((3.0, 4.0), 60 - 5.8, True),
        # At least 1% of the champion's FID, even without noise.
        ((0.0, 0.0), 60 - 0.59, False),
        ((0.0, 0.0), 60 - 0.61, True),
    ],
)
def test_a_lower_fid_counts_beyond_noise_and_the_least_improvement(
    spreads: tuple[float, float], fid: float, passes: bool
) -> None:
    ours, theirs = spreads
    assert decided({"spread": theirs}, fid=fid, spread=ours).passed == passes


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"dtype": "bfloat16"}, "fewer checks: features in bfloat16"),
        ({"overfits": "it overfits"}, "it overfits"),
        ({"memorised": None, "held_out": 0}, "fewer checks: no score for memorised"),
        (
            {"memorised": None},
            "no score for memorised, so nothing says whether it copies photographs",
        ),
        ({"held_out": 0}, "no score for memorised, so nothing says whether it copies photographs"),
        ({"recall": None}, "fewer checks: no precision and recall"),
        ({"precision": None}, "fewer checks: no precision and recall"),
    ],
)
def test_a_version_that_overfits_or_did_without_a_check_says_so(
    changes: dict[str, Any], note: str
) -> None:
    decision = decided(**changes)
    assert decision.passed and note in decision.reason


def test_a_rescored_champion_is_named_with_both_protocols() -> None:
    champion = Champion(7, dataclasses.replace(SCORES, fid=60.0), "was scored under p0")
    decision = decide(CANDIDATE, champion, POLICY)
    assert (decision.rules[-1].name, decision.rules[-1].passed) == ("rescored", True)
    assert decision.reason == (
        "fid2k_x 50 beats version 7's 60; version 7 was scored under p0; under p1 it has 60"
    )


CONTENT: dict[str, Any] = {
    "fid2k_x": 50.0, "fid2k_x_spread": 3.0, "untrained": 99.0, "images_seen": 20,
    "protocol": {"name": "fid2k_x", "id": "p1", "seeds": [0, 1, 2], "dtype": "bfloat16"},
}  # fmt: skip


@pytest.fixture(name="trained")
def make_trained(tmp_path: Path) -> Path:
    """A training that had collapsed at its second and at its third score."""
    events = [
        START,
        {"event": "score", "images_seen": 20, "quick_fid": 9.0},
        {"event": "collapse", "images_seen": 20, "reason": "all alike"},
        {"event": "collapse", "images_seen": 40, "reason": "saturated"},
        {"event": "score", "images_seen": 60, "quick_fid": 9.0},
    ]
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    return tmp_path


def test_a_candidate_has_what_the_gate_needs_of_its_metrics(trained: Path) -> None:
    found = read_candidate(CONTENT, trained)
    assert (found.scores.fid, found.scores.spread, found.scores.latents) == (50.0, 3.0, 3)
    assert (found.untrained, found.images_seen, found.dtype) == (99.0, 20, "bfloat16")
    assert found.pretrained is False


@pytest.mark.parametrize(("init_from", "pretrained"), [(None, False), ("models:/faces/1", True)])
def test_a_training_that_started_from_another_one_is_known(
    init_from: str | None, pretrained: bool, trained: Path
) -> None:
    history = trained / "history.jsonl"
    train = json.dumps({"init_from": init_from})
    history.write_text(history.read_text().replace('"train": {}', f'"train": {train}'))
    assert read_candidate(CONTENT, trained).pretrained is pretrained


def test_the_untrained_network_is_compared_by_all_its_latents(trained: Path) -> None:
    assert read_candidate(CONTENT, trained).untrained_variance == 9.0  # of one set of latents
    several = {"untrained_spread": 6.0, "untrained_fids": [1.0, 2.0, 3.0]}
    assert read_candidate(CONTENT | several, trained).untrained_variance == 12.0


@pytest.mark.parametrize(
    ("seen", "collapse"), [(0, ""), (20, "all alike"), (40, "saturated"), (60, "")]
)
def test_a_collapse_counts_at_the_snapshot_alone(seen: int, collapse: str, trained: Path) -> None:
    assert read_candidate(CONTENT | {"images_seen": seen}, trained).collapse == collapse


def test_the_warning_of_evaluate_that_it_overfits_is_known(trained: Path) -> None:
    train, held_out = torch.randn(300, 8, generator=torch.Generator().manual_seed(0)).split(200)
    moments = FeatureMoments(8)
    moments.update(train)
    extractor = {"extractor": "efficientnet-lite0", "input_size": 32, "dtype": "float32"}
    statistics = Statistics.from_moments(
        moments, {"extractor": extractor}, train, torch.arange(200), held_out + 1
    )
    (warning,) = heldout_metrics(statistics, train).warnings
    found = read_candidate(CONTENT | {"warnings": ["few images", warning]}, trained)
    assert found.overfits == warning
    assert read_candidate(CONTENT | {"warnings": ["few images"]}, trained).overfits == ""
