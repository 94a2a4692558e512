"""A real `facegan app` and what strangers send to it."""

import contextlib
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from facegan.app.guard import MAX_MESSAGE, Log
from registrations import NAME
from servers import answers, free_port, wait

FACES = "/gradio_api/run/faces"
JSON = {"Content-Type": "application/json"}


@dataclass
class App:
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def post(self, body: bytes | Iterator[bytes]) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", FACES, body, JSON)
            return connection.getresponse().status
        finally:
            connection.close()


@pytest.fixture
def app(registered: Path, tmp_path: Path) -> Iterator[App]:
    port, log = free_port(), tmp_path / "log"
    command = [str(Path(sys.executable).with_name("facegan")), "app", "--port", str(port)]
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{registered}/mlflow.db", "FACEGAN_DEVICE": "cpu"}
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=registered, env=os.environ | store, stdout=output, stderr=output
        )
    try:
        wait(lambda: process.poll() is not None or answers(f"http://127.0.0.1:{port}"))
        yield App(port, process, log)
    finally:
        process.kill()
        process.wait()


@pytest.mark.e2e
def test_strangers_fill_neither_memory_nor_terminal(app: App) -> None:
    valid = json.dumps({"data": [5, 1, None, None]}).encode()
    assert app.post(valid) == 200  # the first drawing loads libraries
    used = psutil.Process(app.process.pid).memory_info()
    chunks = (b"x" * 1_000_000 for _ in range(200))
    # The answer may come while this is sending.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        assert app.post(chunks) == 413
    assert app.post(json.dumps({"data": ["\x1b]0;title\x07" + "x" * 500_000]}).encode()) == 500
    assert app.post(valid) == 200
    assert psutil.Process(app.process.pid).memory_info().rss < used.rss + 100_000_000
    log = app.log.read_text()
    assert len(log) < 20_000
    assert r"\x1b]0;title" in log and "\x1b" not in log


@pytest.mark.e2e
def test_ctrl_c_stops_the_server_while_a_page_is_open(app: App) -> None:
    page = http.client.HTTPConnection("127.0.0.1", app.port, timeout=60)
    page.request("GET", "/gradio_api/heartbeat/abc")
    assert page.getresponse().readline() == b"data: ALIVE\n"
    start = time.monotonic()
    app.process.send_signal(signal.SIGINT)
    assert app.process.wait(60) == 0
    assert time.monotonic() - start < 30
    page.close()
    url = f"http://127.0.0.1:{app.port}"
    assert app.log.read_text().splitlines() == [f"{NAME}: {url}", "Ctrl-C stops the server"]


def test_a_log_has_no_control_characters_and_no_long_messages() -> None:
    target = io.StringIO()
    print("a\tb\x1b[31m\x9b", "x" * MAX_MESSAGE, sep="\n", file=Log(target), end="\n")
    text = target.getvalue()
    assert text.startswith("a\tb\\x1b[31m\\x9b\n") and len(text) <= MAX_MESSAGE + 30
    assert text.isascii() and "\x1b" not in text
