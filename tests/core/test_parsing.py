from pathlib import Path

import pytest

from facegan.core.parsing import parse_json

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, b"[" * 100_000, b"\xff\xfe\xfd", "{'a': 1}"]
)
def test_what_is_no_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


@pytest.mark.parametrize("text", ['{"a": [1, null]}', b'{"a": [1, null]}'])
def test_text_and_utf8_are_parsed(text: str | bytes) -> None:
    assert parse_json(text) == {"a": [1, None]}


def test_all_other_modules_parse_json_with_it() -> None:
    files = [
        file for folder in ("src", "pipelines", "infra") for file in (ROOT / folder).rglob("*.py")
    ]
    parsing = [file.name for file in files if "json.load" in file.read_text("utf-8")]
    assert parsing == ["parsing.py"]
