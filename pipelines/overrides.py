"""Parameters of one run that differ from params.yaml, by dotted key."""

from argparse import ArgumentTypeError
from collections.abc import Mapping
from typing import Any

from facegan.core.errors import FaceganError
from facegan.core.parsing import parse_json
from facegan.params import Params, validated


def override(params: Params, overrides: Mapping[str, Any]) -> Params:
    """Return the parameters with the values of dotted keys, such as `train.lr`, replaced.

    Raises:
        FaceganError: with one line per invalid key: the key, its value and the valid values.
    """
    content = params.model_dump(by_alias=True)
    for key, value in overrides.items():
        if isinstance(value, Mapping):
            raise FaceganError(f"{key}: expected a value; name its keys, such as train.lr")
        *sections, last = key.split(".")
        section = content
        for name in sections:
            section = section.setdefault(name, {})
            if not isinstance(section, dict):
                raise FaceganError(f"{key}: unknown key; {name} is a value, not a section")
        section[last] = value
    return validated(content)


def key_and_value(text: str) -> tuple[str, Any]:
    """Split `train.lr=0.0001`; what is not JSON is a string.

    Raises:
        ArgumentTypeError: if there is no `=`.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise ArgumentTypeError(f"{text!r}: valid: KEY=VALUE, such as train.lr=0.0001")
    try:
        return key, parse_json(value)
    except ValueError:
        return key, value
