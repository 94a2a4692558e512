"""The summary of a result; tests/integration/test_pipeline.py has one with a registered version."""

import json
from pathlib import Path
from typing import Any

import pytest

from facegan.core.errors import FaceganError
from facegan.register.summary import summary

NAME = "fid60_x"
SCORES: dict[str, Any] = {
    NAME: 326.2298,
    f"{NAME}_spread": 1.8,
    "untrained": 326.2,
    "protocol": {
        "name": NAME,
        "seeds": [0, 10, 20],
        "num_samples": 60,
        "num_real": 50,
        "comparability_note": "",
    },
    "kid46_x": 0.62,
    "kid46_x_spread": 0.01,
    "kid46_x_stderr": 0.031,
    "precision46_x": 0.25,
    "precision46_x_stderr": 0.064,
    "recall46_x": 0.0,
    "recall46_x_stderr": 0.021739,
    "floor": 94.2,
    "images_seen": 640,
    "omitted": {"memorised": "5 held-out images; at least 20 are needed"},
    "warnings": ["50 photographs for 1,280 features: ..."],
}


def rows(trained: Path, **changes: Any) -> list[tuple[str, str]]:
    metrics = trained.with_name("metrics.json")
    metrics.write_text(json.dumps(SCORES | changes))
    return summary(trained, metrics, Path("evaluation"), "facegan-test")


def test_scores_are_shown_with_their_standard_errors(store: Path, trained: Path) -> None:
    shown = dict(rows(trained))
    assert shown["kid"] == "0.62 ± 0.03, lower is better"
    assert shown["precision"].startswith("0.25 ± 0.06, share of generated images")
    assert shown["recall"].startswith("0 ± 0.02, share of real images")


def test_missing_scores_and_warnings_are_shown_with_the_reason(store: Path, trained: Path) -> None:
    shown = rows(trained)
    assert ("memorised", "no score: 5 held-out images; at least 20 are needed") in shown
    assert ("warning", "50 photographs for 1,280 features: ...") in shown


def test_memorised_is_shown_beside_what_is_expected(store: Path, trained: Path) -> None:
    memorised = {"memorised46_x": 0.15, "memorised46_x_expected": 0.0323}
    memorised["memorised46_x_stderr"] = 0.041
    shown = dict(rows(trained, omitted={}, **memorised))
    assert shown["memorised"].startswith("0.15, share of samples closer to a training image")
    assert shown["memorised"].endswith("; 0.032 ± 0.04 is expected")


def test_what_is_not_registered_yet_is_shown_with_the_command(store: Path, trained: Path) -> None:
    command = "dvc repro --single-item --force register"
    assert dict(rows(trained))["registered"] == f"not yet; run: {command}"


def test_the_fid_against_held_out_photographs_is_shown(store: Path, trained: Path) -> None:
    fids = {"heldout": 118.8, "train": 108.2, "gap": 10.6, "gap_stderr": 5.0, "heldout_floor": 50.8}
    scores = {f"{NAME}_{name}": value for name, value in fids.items()}
    shown = dict(rows(trained, heldout_metrics={"photographs": 517}, **scores))
    assert shown["held-out"].startswith("118.8, FID against 517 photographs never trained on")


def test_scores_that_nest_too_deep_are_one_line(store: Path, trained: Path) -> None:
    metrics = trained.with_name("metrics.json")
    metrics.write_text("[" * 100_000)
    with pytest.raises(FaceganError, match=r"metrics.json: no scores \(.*\); run: dvc repro$"):
        summary(trained, metrics, Path("evaluation"), "facegan-test")


@pytest.mark.parametrize("key", ["untrained", "floor", "omitted", "warnings", "protocol", NAME])
@pytest.mark.parametrize("change", ["deleted", "a list"])
def test_edited_scores_are_one_line(key: str, change: str, store: Path, trained: Path) -> None:
    content = {name: value for name, value in SCORES.items() if name != key}
    metrics = trained.with_name("metrics.json")
    metrics.write_text(json.dumps(content if change == "deleted" else [content]))
    with pytest.raises(FaceganError, match=r"metrics.json: no scores \(.*\); run: dvc repro$"):
        summary(trained, metrics, Path("evaluation"), "facegan-test")
