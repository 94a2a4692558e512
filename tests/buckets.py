"""Real S3 servers for tests, rclone's and moto's, and a proxy that records and injects faults."""

import http.client
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import pytest

from facegan.photos import s3

KEY, SECRET = "AKIAFACEGAN", "not-to-be-shown"
MAKE_CLIENT = s3._client.__wrapped__
PROGRAMS = Path(sys.executable).parent
# For tests that change objects on disk. Not for what uploads several at once: it makes rclone fail.
UNREMEMBERED = ("--dir-cache-time", "1ms")


def credentials(url: str) -> dict[str, str]:
    """An environment in which boto3 finds only the server at `url`, no local configuration."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def use(monkeypatch: pytest.MonkeyPatch, url: str, **other: str | None) -> None:
    """Point this process's `s3` at the server at `url`, with `other` in its environment."""
    environment = credentials(url) | other
    for name, value in environment.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    key = tuple(sorted(environment.items(), key=str))
    monkeypatch.setattr(s3, "_client", lambda process: _client(key))


@cache
def _client(environment: tuple[tuple[str, str | None], ...]) -> Any:
    return MAKE_CLIENT(0)  # cached, because creating one takes up to a second


@contextmanager
def rclone(root: Path, *options: str) -> Iterator[str]:
    """rclone's S3 server; the folders in `root` are its buckets. Yields its URL.

    It remembers for five minutes what its folders hold, unless `options` are UNREMEMBERED.
    """
    options += ("--auth-key", f"{KEY},{SECRET}", "--addr", "127.0.0.1:0")
    command = [f"{PROGRAMS}/rclone", "serve", "s3", *options, "--config", os.devnull, str(root)]
    with _serving(command, root.parent / "rclone.log", "Starting s3 server on [") as url:
        yield url


@contextmanager
def moto(folder: Path) -> Iterator[str]:
    """moto's S3 server, which supports multipart ETags, checksums and If-Match. Yields its URL."""
    command = [f"{PROGRAMS}/moto_server", "-H", "127.0.0.1", "-p", "0"]
    with _serving(command, folder / "moto.log", "Running on ") as url:
        yield url


@contextmanager
def _serving(command: list[str], log: Path, before: str) -> Iterator[str]:
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 60
        while not (url := log.read_text().partition(before)[2].partition("\n")[0]):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield url.strip("[]/ ")
    finally:
        process.kill()
        process.wait()


@dataclass
class Exchange:
    """A request through the proxy and its response, which `Proxy.alter` may modify."""

    method: str
    key: str  # with the bucket's name in front
    query: str
    range: str | None
    if_match: str | None
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    # Bytes after which the connection is closed, and what to do before that.
    cut: int | None = None
    wait: Callable[[], object] = lambda: None


class Proxy:
    """Forwards requests to an S3 server and records them in `exchanges`.

    Keeps Host headers, so that signatures stay valid.
    """

    def __init__(self, server: str) -> None:
        self.server = urlsplit(server).netloc
        self.url = ""
        self.exchanges: list[Exchange]
        self.alter: Callable[[Exchange], object]
        self.refuses: Callable[[], bool]
        self.dropped: str
        self.reset()

    def reset(self) -> None:
        self.exchanges, self.alter = [], lambda exchange: None
        self.refuses = lambda: False  # answers 503 and forwards nothing
        self.dropped = ""  # a header that is not forwarded

    def gets(self, part: str = "") -> list[Exchange]:
        """The GET requests for objects whose keys contain `part`."""
        return [e for e in self.exchanges if e.method == "GET" and "/" in e.key and part in e.key]

    @contextmanager
    def running(self) -> Iterator[Self]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            self.url = f"http://127.0.0.1:{server.server_address[1]}"
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def _handler(proxy) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                key = unquote(url.path).removeprefix("/")
                conditions = self.headers["Range"], self.headers["If-Match"]
                exchange = Exchange(self.command, key, url.query, *conditions)
                proxy.exchanges.append(exchange)
                content = self.rfile.read(int(self.headers["Content-Length"] or 0))
                if proxy.refuses():
                    exchange.status = 503
                    return self.respond(exchange)
                upstream = http.client.HTTPConnection(proxy.server)
                upstream.putrequest(self.command, self.path, skip_host=True)
                for name, value in self.headers.items():
                    if name != proxy.dropped:
                        upstream.putheader(name, value)
                upstream.endheaders(content)
                response = upstream.getresponse()
                exchange.status, exchange.body = response.status, response.read()
                exchange.headers = dict(response.getheaders())
                upstream.close()
                proxy.alter(exchange)
                with suppress(ConnectionError):  # the client was killed
                    self.respond(exchange)

            do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

            def respond(self, exchange: Exchange) -> None:
                self.send_response(exchange.status)
                for name, value in exchange.headers.items():
                    if name not in ("Date", "Server", "Connection", "Transfer-Encoding"):
                        self.send_header(name, value)
                if "Content-Length" not in exchange.headers:
                    self.send_header("Content-Length", str(len(exchange.body)))
                self.end_headers()
                self.wfile.write(exchange.body[: exchange.cut])
                self.wfile.flush()
                exchange.wait()
                self.close_connection = exchange.cut is not None

            def log_message(self, *arguments: object) -> None:
                pass

        return Handler
