import os
import socket
import sys

import pytest

from facegan.app import server
from facegan.core.errors import FaceganError


def test_without_gradio_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(FaceganError, match=r"run: pip install 'facegan\[app\]'$"):
        server.require_gradio()


def test_gradio_sends_no_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "True")
    server.require_gradio()
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


def test_a_port_that_is_taken_is_one_line_and_the_default_gives_way() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(FaceganError, match=f"^port {port} is taken; choose another --port$"):
            server.listen("127.0.0.1", port)
    first, address = server.listen("127.0.0.1", None)
    second, other = server.listen("127.0.0.1", None)
    with first, second:
        assert address != other
        assert address.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid", ""])
def test_a_host_that_is_none_of_this_machines_is_one_line(host: str) -> None:
    with pytest.raises(FaceganError, match=f"^--host {host}: cannot listen there"):
        server.listen(host, 0)


def test_an_ipv6_address_has_brackets() -> None:
    try:
        listener, address = server.listen("::1", 0)
    except FaceganError:
        pytest.skip("no IPv6 on this machine")
    with listener:
        assert address.startswith("http://[::1]:")
