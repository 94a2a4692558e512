"""What a score is a score of."""

from pathlib import Path
from typing import Any

import pytest

from facegan.evaluate.protocol import describe_protocol, score_name
from facegan.features import inception_weights
from facegan.features.frechet import Statistics

INCEPTION = {"extractor": "inception", "input_size": 299, "dtype": "float32"}


@pytest.fixture(name="statistics")
def load_statistics(references: tuple[Path, Path]) -> Statistics:
    return Statistics.load(references[1])


def changed(statistics: Statistics, **metadata: Any) -> Statistics:
    return Statistics(**{**vars(statistics), "metadata": {**statistics.metadata, **metadata}})


@pytest.mark.parametrize(
    ("metric", "num_samples", "name"),
    [
        ("fid", 40, "fid40_efficientnet-lite0-32"),
        ("fid", 2000, "fid2k_efficientnet-lite0-32"),
        ("kid", 2500, "kid2.5k_efficientnet-lite0-32"),
    ],
)
def test_a_name_has_the_number_of_images_and_the_features(
    metric: str, num_samples: int, name: str, statistics: Statistics
) -> None:
    assert score_name(metric, num_samples, statistics) == name


def test_the_literatures_protocol_has_the_literatures_name(statistics: Statistics) -> None:
    protocol = describe_protocol(changed(statistics, extractor=INCEPTION), 50_000)
    assert protocol["name"] == "fid50k_inception"
    assert protocol["weights"] == inception_weights.SHA256
    assert protocol["comparability_note"] == ""


def test_other_features_say_that_they_are_not_comparable(statistics: Statistics) -> None:
    protocol = describe_protocol(statistics, 50_000)
    assert protocol["comparability_note"] == "not comparable with published FIDs"


def test_protocols_differ_with_everything_that_can_move_a_score(statistics: Statistics) -> None:
    base = describe_protocol(statistics, 2000)
    identities = {base["id"], describe_protocol(statistics, 2500)["id"]}
    changes = {
        "data": "x", "holdout": "x", "count": 1, "shape": [64, 64, 1], "preprocessing": "other",
        "extractor": INCEPTION,
    }  # fmt: skip
    for key, value in changes.items():
        identities.add(describe_protocol(changed(statistics, **{key: value}), 2000)["id"])
    assert len(identities) == 2 + len(changes)


def test_a_protocol_does_not_depend_on_how_many_single_features_are_kept(
    statistics: Statistics,
) -> None:
    fewer = Statistics(**{**vars(statistics), "subset": statistics.subset[:9]})
    assert describe_protocol(fewer, 2000) == describe_protocol(statistics, 2000)
