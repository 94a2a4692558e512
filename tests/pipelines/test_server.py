"""Whether there is a Prefect server."""

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from facegan.core.errors import FaceganError
from pipelines.server import START, check_server, start_temporary_server


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:1/api", "http://127.0.0.1:1/api ([Errno 111]"),
        ("faces", "faces (Request URL is missing"),
        ("http://ada:secret@faces:port/api", "http://***@faces:port/api (not an address; "),
        ("http://ada:sec/ret@faces/api", "http://***@faces/api (not an address; "),
        ("http://é☃/api", "http://é☃/api (not an address; "),
        ("\thttp://127.0.0.1:1/api", "(not an address; "),
    ],
)
def test_an_address_that_leads_nowhere_is_one_line_without_its_password(
    url: str, shown: str
) -> None:
    with temporary_settings({PREFECT_API_URL: url}), pytest.raises(FaceganError) as error:
        check_server(START)
    text = str(error.value)
    assert shown in text and text.endswith(START)
    assert "\n" not in text and "sec" not in text.replace("[", "")


def test_without_a_home_to_write_to_prefect_is_told_where() -> None:
    with (
        temporary_settings({PREFECT_HOME: "/proc/nobody/.prefect"}),
        pytest.raises(FaceganError) as caught,
    ):
        start_temporary_server()
    line = "/proc/nobody/.prefect: Prefect cannot write there; set PREFECT_HOME to another folder"
    assert str(caught.value) == line
