"""Scores in words. tests/register/test_summary.py has the rows that the summary shares."""

from typing import Any

from facegan.evaluate.rows import score_rows

NAME = "fid2k_x-112"
SCORES: dict[str, Any] = {
    NAME: 72.506,
    "protocol": {"name": NAME, "num_samples": 2000, "num_real": 5000, "comparability_note": ""},
    f"{NAME}_heldout": 118.8129,
    f"{NAME}_heldout_floor": 50.794,
    f"{NAME}_train": 108.1831,
    f"{NAME}_gap": 10.6298,
    f"{NAME}_gap_stderr": 4.9615,
    "heldout_metrics": {"photographs": 517},
    "floor": 16.6715,
    "omitted": dict.fromkeys(("kid", "precision", "recall", "memorised"), "19 images"),
    "warnings": ["all JPEG"],
}


def test_a_set_of_images_has_its_numbers_and_its_scores() -> None:
    rows = score_rows(SCORES)
    assert rows[:3] == [
        ("protocol", NAME),
        ("FID", "72.5, 2,000 images against 5,000 real images; lower is better"),
        ("floor", "16.7, between two halves of the real images"),
    ]
    assert rows[4:6] == [("kid", "no score: 19 images"), ("precision", "no score: 19 images")]
    assert rows[-1] == ("warning", "all JPEG")


def test_a_note_on_comparability_follows_the_protocol() -> None:
    protocol = SCORES["protocol"] | {"comparability_note": "not comparable"}
    assert score_rows(SCORES | {"protocol": protocol})[1] == ("", "not comparable")


def test_the_fid_against_held_out_photographs_stands_beside_that_against_training_ones() -> None:
    assert score_rows(SCORES)[3] == (
        "held-out",
        "118.8, FID against 517 photographs never trained on (floor 50.8); 108.2 against as many "
        "training photographs; difference 11 ± 5, 0 without overfitting",
    )


def test_without_held_out_photographs_the_reason_is_shown() -> None:
    plain = {key: value for key, value in SCORES.items() if not key.startswith(f"{NAME}_")}
    plain["omitted"] = SCORES["omitted"] | {"fid_heldout": "0 held-out images"}
    assert score_rows(plain)[3] == ("held-out", "no score: 0 held-out images")


def test_metrics_of_before_this_score_have_no_row_for_it() -> None:
    plain = {key: value for key, value in SCORES.items() if not key.startswith(f"{NAME}_")}
    assert "held-out" not in dict(score_rows(plain))
