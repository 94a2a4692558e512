"""Scores as a tag has them: people can edit it."""

import json
from typing import Any

import pytest

from facegan.register.scores import Scores

SCORES = Scores(
    protocol="p1", metric="fid2k_x", fid=50.0, spread=1.0, latents=3, images=2000, held_out=500,
    precision=0.6, recall=None, memorised=0.01,
)  # fmt: skip


def test_a_tag_has_all_of_the_scores() -> None:
    assert Scores.from_json(SCORES.to_json()) == SCORES


@pytest.mark.parametrize(
    ("name", "value"),
    [("latents", 0), ("images", -1), ("held_out", -1), ("recall", 1.5), ("fid", None)],
)
def test_edited_scores_that_cannot_be_are_none(name: str, value: Any) -> None:
    text = json.dumps(json.loads(SCORES.to_json()) | {name: value})
    assert Scores.from_json(text) is None


def test_a_spread_too_large_to_square_is_noise_without_bounds() -> None:
    text = json.dumps(json.loads(SCORES.to_json()) | {"spread": 1e200})
    found = Scores.from_json(text)
    assert found is not None and found.variance == float("inf")
