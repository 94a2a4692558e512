import pytest

from facegan.core.numbers import significant


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (19.6, 1, "20"),
        (-121.4, 2, "-120"),
        (0.0123, 1, "0.01"),
        (0.0, 2, "0"),
        (326.711, 4, "326.7"),
    ],
)
def test_no_exponent_for_numbers_as_large_as_scores(value: float, digits: int, text: str) -> None:
    assert significant(value, digits) == text
