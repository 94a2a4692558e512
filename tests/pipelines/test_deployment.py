"""Names of schedules."""

import pytest

from facegan.core.errors import FaceganError
from pipelines.deployment import check_name


@pytest.mark.parametrize("name", ["nightly", "faces-1f0c2a7b", "v1.0", "Zürich at night", "a"])
def test_a_name_is_words(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["", " ", ".", "..", "-", "--cron", "a/b", "a\n", "a ", "50%"])
def test_a_name_that_no_address_can_have_is_refused(name: str) -> None:
    with pytest.raises(FaceganError, match="valid: letters, digits, spaces"):
        check_name(name)
