import os

import pytest

from facegan.core.errors import FaceganError
from facegan.tracking import commands


def test_a_command_that_hangs_is_ended_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "TIMEOUT", 0.2)
    with pytest.raises(FaceganError, match=r"^sleep 30: not done in 0\.2 s; see"):
        commands.output("sleep", "30")
    assert commands.answer("sleep", "30") == ""


def test_the_first_line_of_an_error_is_the_reason() -> None:
    status, text = commands.output("sh", "-c", "echo first >&2; echo second >&2; exit 3")
    assert (status, text) == (3, "first")


def test_programs_of_an_environment_that_is_not_activated_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", os.defpath)
    assert commands.answer("ruff", "--version").startswith("ruff ")


def test_an_answer_keeps_its_line_ends_and_is_empty_after_a_failure() -> None:
    assert commands.answer("printf", r"a\r\nb") == "a\r\nb"
    assert commands.answer("sh", "-c", "echo a; exit 1") == ""
    assert commands.answer("sh", "-c", "echo a; exit 1", status=1) == "a"
    assert commands.answer("no-such-program") == ""
