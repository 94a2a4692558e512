"""Names and protocols of scores."""

from pathlib import Path
from typing import Any

import pytest

from facegan.evaluate.protocol import SEEDS, describe_protocol, score_name
from facegan.features import inception_weights
from facegan.features.extractors import EXTRACTORS
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
        ("fid", 999, "fid999_efficientnet-lite0-32"),
        ("fid", 1000, "fid1k_efficientnet-lite0-32"),
        ("fid", 2000, "fid2k_efficientnet-lite0-32"),
        ("kid", 2500, "kid2.5k_efficientnet-lite0-32"),
    ],
)
def test_a_name_states_number_of_images_and_extractor(
    metric: str, num_samples: int, name: str, statistics: Statistics
) -> None:
    assert score_name(metric, num_samples, statistics) == name


def test_the_published_protocol_is_named_fid50k_inception(statistics: Statistics) -> None:
    protocol = describe_protocol(changed(statistics, extractor=INCEPTION), 50_000)
    assert protocol["name"] == "fid50k_inception"
    assert protocol["weights"] == inception_weights.SHA256
    assert protocol["comparability_note"] == ""


def test_other_extractors_are_marked_as_not_comparable(statistics: Statistics) -> None:
    protocol = describe_protocol(statistics, 50_000)
    assert protocol["comparability_note"] == "not comparable with published FIDs"


def test_a_protocol_has_everything_that_can_change_a_score_by_name(
    statistics: Statistics,
) -> None:
    found = describe_protocol(statistics, 2000, seeds=(5, 7))
    own = {
        "name": "fid2k_efficientnet-lite0-32", "num_samples": 2000, "seeds": [5, 7],
        "num_real": 600, "shape": [32, 32, 1],
    }  # fmt: skip
    of_the_data = {key: statistics.metadata[key] for key in ("preprocessing", "data", "holdout")}
    assert found | own | of_the_data | statistics.metadata["extractor"] == found
    assert found["resize"] == EXTRACTORS["efficientnet-lite0"].resize
    assert describe_protocol(statistics, 2000)["seeds"] == list(SEEDS)


def test_the_id_covers_everything_that_can_change_a_score(statistics: Statistics) -> None:
    base = describe_protocol(statistics, 2000)
    ids = {base["id"], describe_protocol(statistics, 2500)["id"]}
    changes = {
        "data": "x", "holdout": "x", "count": 1, "shape": [64, 64, 1], "preprocessing": "other",
        "extractor": INCEPTION,
    }  # fmt: skip
    for key, value in changes.items():
        ids.add(describe_protocol(changed(statistics, **{key: value}), 2000)["id"])
    assert len(ids) == 2 + len(changes)


def test_the_protocol_does_not_depend_on_the_size_of_the_subset(
    statistics: Statistics,
) -> None:
    fewer = Statistics(**{**vars(statistics), "subset": statistics.subset[:9]})
    assert describe_protocol(fewer, 2000) == describe_protocol(statistics, 2000)
