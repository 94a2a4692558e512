import re
from argparse import ArgumentTypeError
from typing import Any

import pytest

from conftest import make_params
from facegan.core.errors import FaceganError
from pipelines.overrides import key_and_value, override


def test_overrides_replace_values_of_dotted_keys() -> None:
    params = make_params()
    overrides = {"train.lr": 0.5, "seed": 7, "register.policy.noise": 3.0}
    changed = override(params, overrides)
    assert (changed.train.lr, changed.seed, changed.register_.policy.noise) == (0.5, 7, 3.0)
    assert changed.train.epochs == params.train.epochs


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.epochs", 0, "train.epochs: 0: "),
        ("train.epochs", "4", "'4' is a string; valid: an unquoted number"),
        ("train.epoch", 4, "did you mean epochs?"),
        ("trian.epochs", 4, "did you mean train?"),
        ("seed.train", 4, "seed.train: unknown key; seed is a value, not a section"),
        ("train", 4, "expected a mapping"),
        ("train", {"lr": 0.1}, "train: expected a value; name its keys, such as train.lr"),
        ("", 4, "unknown key"),
    ],
)
def test_a_wrong_override_is_one_line(key: str, value: Any, message: str) -> None:
    with pytest.raises(FaceganError, match=re.escape(message)) as error:
        override(make_params(), {key: value})
    assert "\n" not in str(error.value)


def test_values_of_the_command_line_are_json_or_else_text() -> None:
    assert key_and_value("train.lr=2e-4") == ("train.lr", 0.0002)
    assert key_and_value("train.init_from=null") == ("train.init_from", None)
    assert key_and_value("register.name=faces=1") == ("register.name", "faces=1")
    with pytest.raises(ArgumentTypeError, match=r"'train\.lr': valid: KEY=VALUE, such as "):
        key_and_value("train.lr")
    assert key_and_value("train.lr=" + "[" * 100_000)[1].startswith("[[[")
