import pytest

from facegan.core.errors import FaceganError
from facegan.doctor import commands


def test_a_command_that_hangs_is_ended_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "TIMEOUT", 0.2)
    with pytest.raises(FaceganError, match=r"^sleep 30: not done in 0\.2 s; see"):
        commands.output("sleep", "30")


def test_the_first_line_of_an_error_is_the_reason() -> None:
    status, text = commands.output("sh", "-c", "echo first >&2; echo second >&2; exit 3")
    assert (status, text) == (3, "first")
