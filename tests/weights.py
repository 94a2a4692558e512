"""Small weights in place of Inception's, torch's cache for them, and a web server."""

import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch import Tensor

from facegan.core.errors import FaceganError
from facegan.features import inception_weights

PYTORCH_FID = "pt_inception-2015-12-05-6726825d.pth"
TORCH_FIDELITY = "weights-inception-2015-12-05-6726825d.pth"
STATE = {"fc.weight": torch.arange(40_000.0).view(200, 200), "fc.bias": torch.ones(3)}


def saved(state: object, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


CORRECT = saved(STATE)
CORRUPT = CORRECT[:-1] + b"\xff"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Host:
    """A web server for `files`; truncates bodies after `cut` bytes, then calls `then`."""

    def __init__(self) -> None:
        self.url = ""
        self.files: dict[str, bytes] = {}
        self.requested: list[str] = []
        self.cut: int | None = None
        self.then: Callable[[], object] = lambda: None

    def handler(host) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.requested.append(self.path)
                content = host.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                with suppress(ConnectionError):  # the client was interrupted
                    self.wfile.write(content[: host.cut])
                    self.wfile.flush()
                host.then()

            def log_message(self, *arguments: object) -> None:
                pass

        return Handler


def empty_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's cache below `home`, empty; the expected weights are `CORRECT`."""
    monkeypatch.setenv("TORCH_HOME", str(home))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv(inception_weights.VARIABLE, raising=False)
    monkeypatch.setattr(inception_weights, "SHA256", digest(CORRECT))
    return home / "hub" / "checkpoints"


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Stands in for GitHub; serves the weights under both names."""
    host = Host()
    server = ThreadingHTTPServer(("127.0.0.1", 0), host.handler())
    thread = threading.Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    host.url = f"http://127.0.0.1:{server.server_address[1]}"
    host.files = {f"/{PYTORCH_FID}": CORRECT, f"/{TORCH_FIDELITY}": CORRECT}
    monkeypatch.setattr(
        inception_weights, "ADDRESSES", tuple(host.url + path for path in host.files)
    )
    yield host
    server.shutdown()
    server.server_close()
    thread.join()


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def error_line(action: Callable[[], object]) -> str:
    """The message of `action`, which must fail with one line."""
    with pytest.raises(FaceganError) as caught:
        action()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)
