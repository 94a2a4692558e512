"""Which trials a sweep has, and what an interruption changes: nothing."""

from pathlib import Path
from typing import Any

import pytest

from conftest import make_params
from pipelines.search_space import Sampler, parse_space
from pipelines.study import Study
from pipelines.sweep_report import as_text, rows

SPACE = parse_space(["train.lr=log:0.0001..0.01", "train.loss=bce,hinge"], make_params())
GRID = parse_space(["train.lr=1,2", "train.loss=bce,hinge"], make_params())


def scores(fid: float, protocol: str = "fid2") -> dict[str, Any]:
    return {protocol: fid, "protocol": {"name": protocol}}


def run(path: Path, sampler: Sampler, total: int, seed: int = 0, again: int = 1) -> list[Any]:
    """The values of trials, each begun `again` times by a process of its own."""
    values = list[Any]()
    while True:
        for _ in range(again):
            study = Study(path, GRID if sampler == "grid" else SPACE, sampler, seed)
            trial = study.next(total)
            if trial is None:
                return values
            suggested = study.suggest(trial)
        assert trial is not None
        values.append(suggested)
        study.score(trial, scores(suggested["train.lr"]), None)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_seed_determines_the_trials_however_often_they_are_interrupted(
    tmp_path: Path, sampler: Sampler
) -> None:
    first = run(tmp_path / "a.journal", sampler, 8)
    assert len({trial["train.lr"] for trial in first}) == 8
    assert run(tmp_path / "b.journal", sampler, 8, again=2) == first
    assert run(tmp_path / "c.journal", sampler, 8, seed=1) != first
    more = run(tmp_path / "a.journal", sampler, 10)  # a longer sweep continues
    assert len(more) == 2


def test_tpe_draws_near_the_best_after_its_random_trials(tmp_path: Path) -> None:
    random = run(tmp_path / "a.journal", "random", 15)
    tpe = run(tmp_path / "b.journal", "tpe", 15)
    assert tpe[:5] == random[:5]
    mean = sum(trial["train.lr"] for trial in tpe[5:]) / 10
    assert mean < 0.5 * sum(trial["train.lr"] for trial in random[5:]) / 10


def test_a_grid_has_each_combination_once_the_last_key_changing_fastest(tmp_path: Path) -> None:
    found = [tuple(trial.values()) for trial in run(tmp_path / "a.journal", "grid", 4, again=2)]
    assert found == [(1, "bce"), (1, "hinge"), (2, "bce"), (2, "hinge")]


def test_a_failed_trial_runs_again_on_request_alone(tmp_path: Path) -> None:
    study = Study(tmp_path / "a.journal", GRID, "grid", 0)
    for number in range(4):
        trial = study.next(4)
        assert trial is not None
        study.suggest(trial)
        if number == 1:
            study.fail(trial, "NaN")
        else:
            study.score(trial, scores(number), None)
    assert study.next(4) is None
    study.retry_failed()
    study.retry_failed()
    trial = study.next(4)
    assert trial is not None
    assert study.suggest(trial) == {"train.lr": 1, "train.loss": "hinge"}
    study.score(trial, scores(-1), None)
    assert study.next(4) is None
    table = rows(study)
    assert [row["state"] for row in table] == ["scored", "failed", *["scored"] * 3]
    assert table[1]["why"] == "NaN; again: trial 4"
    best = study.best()
    assert best is not None
    assert best.number == 4
    assert as_text(table).splitlines()[:2] == [
        "trial  train.lr  train.loss  fid2  quick FID  state   why",
        "0      1         bce         0                scored",
    ]


def test_a_trial_behind_the_best_third_at_a_rung_ends(tmp_path: Path) -> None:
    ended = []
    for fid in (10.0, 5.0, 7.0, 4.0):
        # Each time from the journal, and twice: after an interruption it is the same decision.
        study = Study(tmp_path / "a.journal", GRID, "grid", 0)
        trial = study.next(4)
        assert trial is not None
        study.suggest(trial)
        behind = study.is_behind(trial, fid, 1)
        study = Study(tmp_path / "a.journal", GRID, "grid", 0)
        again = study.next(4)
        assert again is not None
        assert study.is_behind(again, fid, 1) == behind
        ended.append(behind)
        if behind:
            study.end_early(again, "not among the best")
        else:
            study.score(again, scores(fid), None)
    assert ended == [False, False, True, False]
    assert rows(study)[2] == {
        "trial": 2,
        "train.lr": 2,
        "train.loss": "bce",
        "fid2": None,
        "quick FID": 7.0,
        "state": "ended early",
        "why": "not among the best",
    }


def test_scores_of_another_protocol_are_no_scores(tmp_path: Path) -> None:
    study = Study(tmp_path / "a.journal", GRID, "grid", 0)
    for protocol in ("fid2", "fid3"):
        trial = study.next(2)
        assert trial is not None
        study.suggest(trial)
        study.score(trial, scores(1, protocol), None)
    assert rows(study)[1]["why"] == "scored under another protocol than trial 0"


def test_a_journal_whose_last_line_is_cut_off_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    first = run(path, "random", 3)
    with path.open("a") as file:
        file.write('{"op_code": 4, "work')
    assert len(first) == 3
    assert len(run(path, "random", 5)) == 2
