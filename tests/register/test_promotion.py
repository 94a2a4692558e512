"""What the gate decided, as the registry has it; candidates have chosen scores."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from mlflow import MlflowClient

from conftest import make_params
from facegan.core.errors import FaceganError
from facegan.register import files, history, promotion, registry, rescoring
from facegan.register import roles as moves
from facegan.register.gate import Candidate, Decision, Rule, decide
from facegan.register.promotion import Trial
from facegan.register.registry import Version
from facegan.register.scores import Scores
from registrations import NAME, Trainer, copy_of_second, roles

Two = tuple[MlflowClient, Trainer]
NOTE = "not comparable with published FIDs"
# In the store of `two`: version 1 has FID 50, version 2 has 60.
AT_FIRST = {1: ("Production", ("champion",)), 2: ("Staging", ("challenger",))}
AFTER = {1: ("Archived", ("previous",)), 2: ("Production", ("champion",))}
CPU = torch.device("cpu")


def version(two: Two, number: int) -> Version:
    return registry.read(two[0], NAME).versions[number]


def recorded(two: Two, number: int = 1) -> Scores:
    tags = version(two, number).tags
    scores = Scores.from_json(tags[registry.SCORES + tags[registry.PROTOCOL]])
    assert scores is not None
    return scores


def trial(
    two: Two, of: int = 1, approval: str = "automatic", card: str = "CARD", note: str = NOTE,
    **scores: Any,
) -> Trial:  # fmt: skip
    """Of a candidate with the scores of version `of`, but for `scores`."""
    own = dataclasses.replace(recorded(two, of), **scores)
    candidate = Candidate(
        own, untrained=99.0, untrained_variance=0.0, pretrained=False, images_seen=1, collapse="",
        dtype="float32",
    )  # fmt: skip
    settings = make_params(register={"approval": approval}).register_
    content = {"protocol": {"id": own.protocol, "comparability_note": note}}
    return Trial(two[0], settings, candidate, content, Path("official"), lambda: CPU, card)


def gate(two: Two, number: int) -> str:
    return version(two, number).tags[registry.GATE]


def record(two: Two, number: int) -> dict[str, Any]:
    path = f"runs:/{version(two, number).run}/gate/version-{number}.json"
    content: dict[str, Any] = json.loads(mlflow.artifacts.load_text(path))
    return content


def test_a_promotion_is_in_tag_description_run_and_history(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = moves.now()
    monkeypatch.setattr(moves, "now", lambda: now)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    candidate = trial(two, fid=40.0)
    metric = candidate.candidate.scores.metric
    promotion.run(candidate, 2)
    assert roles(two[0]) == AFTER
    reason = f"{metric} 40 beats version 1's 50; {NOTE}"
    assert gate(two, 2) == f"champion: {reason}"
    lines = version(two, 2).description.split("\n")
    assert lines[:2] == [f"champion: {reason}", ""] and lines[-2:] == ["", "CARD"]
    found = record(two, 2)
    rules = found.pop("rules")
    assert lines[2:-2] == [f"- passed: {rule['explanation']}" for rule in rules]
    assert [rule["name"] for rule in rules] == ["scored", "sound", "original", "diverse", "better"]
    assert found == {
        "model": NAME, "version": 2, "role": "champion", "reason": reason, "notes": [NOTE],
        "scores": dataclasses.asdict(candidate.candidate.scores), "champion": 1, "who": "ada",
        "when": now.isoformat(), "policy": candidate.settings.policy.model_dump(),
    }  # fmt: skip
    reign = registry.read(two[0], NAME).reign
    run, protocol = version(two, 2).run, recorded(two).protocol
    assert reign == registry.Promotion(
        2, 2, 1, "gate", "ada", now, reason, run, protocol, 60.0, settled=True
    )
    logged = mlflow.artifacts.load_text(f"runs:/{run}/{history.NAME}")
    assert [json.loads(line)["version"] for line in logged.splitlines()] == [1, 2]


def test_a_refusal_is_in_tag_description_and_run(two: Two) -> None:
    candidate = trial(two, fid=70.0)
    refused = f"{candidate.candidate.scores.metric} 70 does not beat version 1's 50"
    promotion.run(candidate, 2)
    assert roles(two[0]) == AT_FIRST
    assert gate(two, 2) == f"challenger: {refused}; {NOTE}"
    description = version(two, 2).description
    assert description.startswith(f"challenger: {refused}; {NOTE}\n\n- passed: scored as ")
    assert f"\n- FAILED: {refused}\n\nCARD" in description
    found = record(two, 2)
    assert (found["role"], found["champion"]) == ("challenger", 1)
    assert found["rules"][-1] == {"name": "better", "passed": False, "explanation": refused}


def test_a_version_awaits_approval_and_its_promotion_names_who_gave_it(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    candidate = trial(two, approval="manual", fid=40.0)
    promotion.run(candidate, 2)
    assert roles(two[0]) == AT_FIRST
    metric = candidate.candidate.scores.metric
    assert gate(two, 2) == (
        f"awaiting approval: {metric} 40 beats version 1's 50; {NOTE}; "
        "approve: facegan models approve 2, or tag facegan.approved: yes"
    )
    assert version(two, 2).tags[promotion.COMPARED] == "1"
    assert record(two, 2)["role"] == "awaiting approval"
    two[0].set_model_version_tag(NAME, "2", registry.APPROVED, "grace")
    promotion.run(candidate, 2)
    assert roles(two[0]) == AFTER
    reign = registry.read(two[0], NAME).reign
    assert reign is not None and reign.who == "ada, approved by grace"


def test_without_a_champion_a_version_is_compared_with_none(two: Two) -> None:
    two[0].delete_model_version(NAME, "1")
    promotion.run(trial(two, of=2, approval="manual"), 2)
    assert version(two, 2).tags[promotion.COMPARED] == ""
    assert record(two, 2)["champion"] is None
    promotion.run(trial(two, of=2), 2)
    assert roles(two[0]) == {2: ("Production", ("champion",))}


@pytest.mark.parametrize(
    ("tags", "decided", "approved"),
    [
        ({}, False, False),
        ({registry.GATE: "challenger: worse"}, True, False),
        ({registry.GATE: "awaiting approval: better"}, True, False),
        ({registry.GATE: "awaiting approval: better", registry.APPROVED: "ada"}, False, True),
        ({registry.GATE: "champion: better", registry.APPROVED: " Yes "}, True, True),
        *(({registry.APPROVED: no}, False, False) for no in ("", " ", "no", "No", "false", "0")),
    ],
)
def test_the_gate_runs_again_for_an_approval_alone(
    tags: dict[str, str], decided: bool, approved: bool
) -> None:
    found = Version(NAME, 1, "None", tags, "run", "model", 0, "")
    assert (promotion.is_decided(found), promotion.is_approved(found)) == (decided, approved)


def test_an_experiments_version_has_its_card_and_no_decision(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = gate(two, 2)
    monkeypatch.setenv("DVC_EXP_NAME", "funny-name")
    promotion.run(trial(two, card="C" * 5001, fid=40.0), 2)
    assert version(two, 2).description == "C" * 5000  # what MLflow's database keeps
    assert roles(two[0]) == AT_FIRST and gate(two, 2) == before


def test_a_version_that_is_champion_already_is_left_alone(two: Two) -> None:
    before = version(two, 1)
    promotion.run(trial(two, fid=70.0), 1)
    assert version(two, 1) == before and roles(two[0]) == AT_FIRST


def test_a_decision_counts_against_the_champion_of_its_moment(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process promotes version 2 while version 3 is compared with version 1."""
    client, champions = two[0], list[int]()
    copy_of_second(client, client.get_model_version(NAME, "2").tags)

    def interrupted(candidate: Candidate, champion: Any, policy: Any) -> Decision:
        champions.append(champion.version)
        if champions == [1]:
            moves.promote(client, registry.read(client, NAME), 2, "gate", "better")
            moves.converge(client, NAME, 2)
        return decide(candidate, champion, policy)

    monkeypatch.setattr(promotion, "decide", interrupted)
    promotion.run(trial(two, fid=40.0), 3)
    assert champions == [1, 2]
    assert f"40 beats version 2's 60; {NOTE}" in gate(two, 3)
    assert roles(client)[3] == ("Production", ("champion",))
    monkeypatch.setattr(promotion, "ROUNDS", 0)
    with pytest.raises(FaceganError, match=rf"^{NAME}: other processes keep promoting; register"):
        promotion.run(trial(two, fid=30.0), 1)


def test_notes_say_what_a_score_is_worth_and_that_the_champions_files_are_gone(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = version(two, 1)
    assert trial(two, fid=40.0).compare(champion, keep=True).notes == (NOTE,)
    assert trial(two, note="").compare(None, keep=True).notes == ()
    monkeypatch.setattr(files, "damage", lambda version: "MLmodel missing")
    damaged = f"version 1: MLmodel missing; {files.advice(champion)}"
    assert trial(two, fid=40.0).compare(champion, keep=True).notes == (NOTE, damaged)


def test_scores_on_record_under_the_candidates_protocol_are_compared(two: Two) -> None:
    other = dataclasses.replace(recorded(two), protocol="p2", fid=45.0)
    two[0].set_model_version_tag(NAME, "1", f"{registry.SCORES}p2", other.to_json())
    protocol, candidate = recorded(two).protocol, trial(two, protocol="p2", fid=40.0)
    reason = candidate.compare(version(two, 1), keep=True).rules[-1].explanation
    assert reason == f"version 1 was scored under {protocol}; under p2 it has 45"
    two[0].delete_model_version_tag(NAME, "1", registry.PROTOCOL)
    reason = candidate.compare(version(two, 1), keep=True).rules[-1].explanation
    assert reason == "version 1 was scored under another protocol; under p2 it has 45"
    same = candidate.candidate.scores.protocol
    two[0].set_model_version_tag(NAME, "1", registry.PROTOCOL, same)
    assert candidate.compare(version(two, 1), keep=True).rules[-1].name == "better"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"protocol": "p2"}, "was scored under {protocol}; under p2"),
        ({"images": 8000}, "had precision, recall and memorised from 20 images, not 8,000; under"),
        ({}, "had no valid scores on record; under"),
    ],
)
def test_a_champion_is_rescored_where_its_scores_are_not_those_of_the_candidates_protocol(
    changes: dict[str, Any], reason: str, two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = recorded(two)
    candidate = trial(two, fid=40.0, **changes)
    if not changes:
        tag = registry.SCORES + before.protocol
        two[0].set_model_version_tag(NAME, "1", tag, "edited")
    champion, calls = version(two, 1), list[Any]()
    scores = dataclasses.replace(candidate.candidate.scores, fid=45.0)

    def rescore(*arguments: Any) -> Scores:
        calls.append(arguments)
        return scores

    monkeypatch.setattr(rescoring, "rescore", rescore)
    for keep in (False, True):
        decision = candidate.compare(champion, keep)
        expected = reason.format(protocol=before.protocol)
        assert decision.rules[-1].explanation.startswith(f"version 1 {expected}")
        assert decision.rules[-2].explanation.endswith("40 beats version 1's 45")
        kept = version(two, 1).tags.get(registry.SCORES + scores.protocol)
        assert (kept == scores.to_json()) == keep
    assert calls == [(champion, candidate.content["protocol"], Path("official"), CPU)] * 2


def test_the_gate_keeps_a_champions_new_scores(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = trial(two, protocol="p2", fid=70.0)
    scores = dataclasses.replace(candidate.candidate.scores, fid=45.0)
    monkeypatch.setattr(rescoring, "rescore", lambda *_: scores)
    promotion.run(candidate, 2)
    assert version(two, 1).tags[f"{registry.SCORES}p2"] == scores.to_json()


def test_a_champion_that_cannot_be_rescored_is_named(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> torch.device:
        raise FaceganError("no such device")

    candidate = dataclasses.replace(trial(two, protocol="p2"), choose_device=fail)
    text = f"^{NAME} version 1: cannot be rescored: no such device$"
    with pytest.raises(FaceganError, match=text):
        candidate.compare(version(two, 1), keep=True)
    monkeypatch.setattr(files, "damage", lambda version: "MLmodel missing")
    with pytest.raises(FaceganError, match=f"^{NAME} version 1: MLmodel missing; facegan models"):
        candidate.compare(version(two, 1), keep=True)


def test_rules_and_notes_are_lines_for_the_user() -> None:
    rules = (Rule("scored", True, "yes"), Rule("better", False, "no"))
    assert promotion.explain(Decision(rules, ("a note",))) == [
        "passed scored: yes", "FAILED better: no", "a note",
    ]  # fmt: skip
