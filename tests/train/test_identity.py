"""What of a training may change, and how it is named."""

from typing import Any

import pytest
import yaml

from facegan.train.identity import changes, describe, undo


@pytest.mark.parametrize(
    "value", [0, 1, True, False, None, 1e-05, 2.5e-07, 0.001, ["brightness"], [], "resnet"]
)
def test_values_are_written_as_params_yaml_reads_them(value: Any) -> None:
    text = undo({"train.x": (value, "other")})
    written = text.removeprefix("set train.").removesuffix(" in params.yaml")
    read = yaml.safe_load(written)["x"]
    assert read == value and type(read) is type(value)


def test_both_values_are_described_and_digests_shortened() -> None:
    differences = {"data": ("a" * 64, "b" * 64), "train.augment": ([], ["cutout"])}
    expected = 'data is bbbbbbbbbbbb, was aaaaaaaaaaaa, train.augment is ["cutout"], was []'
    assert describe(differences) == expected


def test_missing_and_new_parts_differ() -> None:
    assert changes({"a": 1, "params": {"x": 1}}, {"b": 2, "params": {"y": 1}}) == {
        "b": (None, 2), "train.y": (None, 1), "a": (1, None), "train.x": (1, None),
    }  # fmt: skip


def test_networks_to_start_from_may_appear_and_vanish() -> None:
    before, after = {"init_from": None}, {"init_from": {"generator": "a" * 64}}
    differences = changes(before, after)
    assert differences["init_from.generator"] == (None, "a" * 64)
    assert undo(differences) == "restore the networks that it started from"


def test_what_needs_no_undoing_is_not_named() -> None:
    assert undo({"code": ("a", "b"), "threads": (1, 2), "train.eval_interval": (1, 2)}) == ""
