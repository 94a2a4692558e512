import hashlib
import io
import os
import signal
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from buckets import SECRET, Exchange, Proxy, use
from facegan.core.errors import FaceganError
from facegan.core.events import Message, silent
from facegan.features import inception_weights
from facegan.fetch import inception
from samples import contents, unprivileged

PYTORCH_FID = "pt_inception-2015-12-05-6726825d.pth"
TORCH_FIDELITY = "weights-inception-2015-12-05-6726825d.pth"
STATE = {"fc.weight": torch.arange(40_000.0).view(200, 200), "fc.bias": torch.ones(3)}


def saved(state: object, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


RIGHT = saved(STATE)
WRONG = RIGHT[:-1] + b"\xff"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Host:
    """A web server with `files`; it cuts their bodies after `cut` bytes and then calls `then`."""

    def __init__(self) -> None:
        self.url = ""
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cut: int | None = None
        self.then: Callable[[], object] = lambda: None

    def handler(host) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.asked.append(self.path)
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


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch's; the weights wanted are `RIGHT`."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv(inception_weights.VARIABLE, raising=False)
    monkeypatch.setattr(inception_weights, "SHA256", digest(RIGHT))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A server that has the weights under both names, in the place of GitHub."""
    host = Host()
    server = ThreadingHTTPServer(("127.0.0.1", 0), host.handler())
    thread = threading.Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    host.url = f"http://127.0.0.1:{server.server_address[1]}"
    host.files = {f"/{PYTORCH_FID}": RIGHT, f"/{TORCH_FIDELITY}": RIGHT}
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


def refusal(action: Callable[[], object]) -> str:
    """The one line in which `action` ends."""
    with pytest.raises(FaceganError) as caught:
        action()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def fetch() -> Path:
    return inception.fetch_inception(silent)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)


def test_the_published_names_carry_the_hash_that_is_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    assert [address.rpartition("/")[2] for address in inception_weights.ADDRESSES] == [
        PYTORCH_FID,
        TORCH_FIDELITY,
    ]
    assert all(inception_weights.SHA256[:8] in address for address in inception_weights.ADDRESSES)
    assert len(inception_weights.SHA256) == len(digest(b""))


# Reading.


@pytest.mark.parametrize("name", [PYTORCH_FID, TORCH_FIDELITY])
def test_the_cache_may_hold_them_under_either_tools_name(name: str, cache: Path) -> None:
    put(cache / name, RIGHT)
    assert same(inception_weights.inception(), STATE)


def test_a_path_comes_before_the_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache / PYTORCH_FID, WRONG)
    monkeypatch.setenv(inception_weights.VARIABLE, str(put(tmp_path / "mine.pth", RIGHT)))
    assert same(inception_weights.inception(), STATE)


def test_an_empty_variable_is_none(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(inception_weights.VARIABLE, "")
    put(cache / PYTORCH_FID, RIGHT)
    assert same(inception_weights.inception(), STATE)


@given(
    shapes=st.dictionaries(st.text(), st.lists(st.integers(0, 3), max_size=4), min_size=1),
    legacy=st.booleans(),
    seed=st.integers(0, 99),
)
def test_tensors_come_back_as_they_were_in_torchs_old_format_too(
    shapes: dict[str, list[int]],
    legacy: bool,
    seed: int,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = torch.Generator().manual_seed(seed)
    state = OrderedDict((k, torch.randn(shape, generator=random)) for k, shape in shapes.items())
    content = saved(state, legacy)
    monkeypatch.setattr(inception_weights, "SHA256", digest(content))
    put(cache / PYTORCH_FID, content)
    assert same(inception_weights.inception(), state)


@given(place=st.integers(0, len(RIGHT) - 1), difference=st.integers(1, 255))
def test_a_byte_that_differs_is_another_file(place: int, difference: int, cache: Path) -> None:
    content = RIGHT[:place] + bytes([RIGHT[place] ^ difference]) + RIGHT[place + 1 :]
    put(cache / PYTORCH_FID, content)
    line = refusal(inception_weights.inception)
    assert line.startswith(f"{cache / PYTORCH_FID}: is another file")
    assert digest(content)[:12] in line
    assert digest(RIGHT)[:12] in line


def test_a_file_that_is_too_long_is_not_read_to_its_end(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inception_weights, "SIZE", 1 << 20)
    os.truncate(put(cache / PYTORCH_FID, b""), 1 << 42)  # a hole, more than fits the memory
    assert "is another file (over 1,048,576 bytes, not" in refusal(inception_weights.inception)


def three_ways(line: str) -> bool:
    ways = "facegan fetch inception", "FACEGAN_INCEPTION=PATH", "FACEGAN_INCEPTION=s3://"
    return all(way in line for way in ways)


def test_an_empty_cache_names_its_place_and_the_three_ways_and_asks_nobody(
    host: Host, cache: Path
) -> None:
    line = refusal(inception_weights.inception)
    assert line.startswith(f"{cache / PYTORCH_FID} or {TORCH_FIDELITY}: not there; ")
    assert three_ways(line)
    assert host.asked == []


def test_a_missing_path_is_named_with_the_three_ways_and_the_cache_not_used(
    host: Host, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache / PYTORCH_FID, RIGHT)
    monkeypatch.setenv(inception_weights.VARIABLE, "absent.pth")
    line = refusal(inception_weights.inception)
    assert line.startswith("absent.pth: not there; ")
    assert three_ways(line)
    assert host.asked == []


def test_a_folder_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(inception_weights.VARIABLE, str(tmp_path))
    assert refusal(inception_weights.inception) == f"{tmp_path}: cannot be read (Is a directory)"


@pytest.mark.parametrize("closed", ["file", "folder"])
def test_what_may_not_be_read_is_named(closed: str, cache: Path) -> None:
    path = put(cache / PYTORCH_FID, RIGHT)
    (path if closed == "file" else cache).chmod(0)
    try:
        with unprivileged(*([cache] if closed == "file" else [cache.parent])):
            line = refusal(inception_weights.inception)
    finally:
        cache.chmod(0o700)
    assert line == f"{path}: cannot be read (Permission denied)"


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    "state",
    [
        {"fc.weight": Malicious()},
        {"fc.weight": 1.0},
        {1: torch.zeros(1)},
        {"fc": {"weight": torch.zeros(1)}},
        torch.zeros(1),
        [],
        {},
    ],
)
def test_what_is_no_state_dict_of_tensors_is_refused_and_not_executed(
    state: object, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = put(cache / PYTORCH_FID, saved(state))
    monkeypatch.setattr(inception_weights, "SHA256", digest(path.read_bytes()))
    line = refusal(inception_weights.inception)
    assert line.startswith(f"{path}: holds no state dict of tensors (")
    assert not (tmp_path / "executed").exists()


@given(content=st.binary(max_size=100))
def test_no_bytes_end_in_a_traceback(content: bytes, cache: Path) -> None:
    put(cache / PYTORCH_FID, content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception_weights, "SHA256", digest(content))
        assert "holds no state dict of tensors" in refusal(inception_weights.inception)


# From S3.

URL = "s3://inception/models/weights.pth"


@pytest.fixture
def bucket(buckets: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Path:
    put(buckets / "inception" / "models" / "weights.pth", RIGHT)
    monkeypatch.setenv(inception_weights.VARIABLE, URL)
    return buckets / "inception"


def test_from_s3_they_come_in_one_request_and_stay_nowhere(
    bucket: Path, proxy: Proxy, tmp_path: Path
) -> None:
    assert same(inception_weights.inception(), STATE)
    assert len(proxy.gets()) == 1
    assert contents(tmp_path) == {}


def test_a_missing_object_is_named_with_the_three_ways(
    bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in (f"{URL}h", "s3://nowhere/weights.pth"):
        monkeypatch.setenv(inception_weights.VARIABLE, url)
        line = refusal(inception_weights.inception)
        assert line.startswith(f"{url}: not there; ")
        assert three_ways(line)


def test_a_bucket_is_no_object(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(inception_weights.VARIABLE, "s3://inception/")
    assert refusal(inception_weights.inception).endswith("is a bucket; write s3://BUCKET/KEY")


def test_another_object_is_told_by_its_hash(bucket: Path) -> None:
    put(bucket / "models" / "weights.pth", WRONG)
    line = refusal(inception_weights.inception)
    assert line.startswith(f"{URL}: is another file (sha256 {digest(WRONG)[:12]}..., not sha256")
    assert line.endswith("put the right one there")


def test_no_more_of_a_large_object_is_brought_than_tells_it_apart(
    bucket: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inception_weights, "SIZE", 1000)
    assert "over 1,000 bytes" in refusal(inception_weights.inception)
    assert [get.range for get in proxy.gets()] == ["bytes=0-1000"]


def test_a_body_that_breaks_off_goes_on(bucket: Path, proxy: Proxy) -> None:
    def break_off(exchange: Exchange) -> None:
        exchange.cut = 5000 if exchange.method == "GET" and len(proxy.gets()) < 3 else None

    proxy.alter = break_off
    assert same(inception_weights.inception(), STATE)
    assert len(proxy.gets()) == 3


def test_s3_that_refuses_is_named_without_the_secret(
    bucket: Path, server: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, server.url, AWS_SECRET_ACCESS_KEY=f"{SECRET}!")
    line = refusal(inception_weights.inception)
    assert line.startswith(f"{URL}: cannot be read (PermissionError); check AWS's credentials")
    assert SECRET not in line


# Downloading.


def test_a_fetch_brings_them_into_the_cache(host: Host, cache: Path) -> None:
    assert fetch() == cache / PYTORCH_FID
    assert contents(cache) == {PYTORCH_FID: RIGHT}
    assert same(inception_weights.inception(), STATE)


@pytest.mark.parametrize("name", [PYTORCH_FID, TORCH_FIDELITY])
def test_what_is_there_is_not_fetched_again(name: str, host: Host, cache: Path) -> None:
    put(cache / name, RIGHT)
    events: list[Any] = []
    assert inception.fetch_inception(events.append) == cache / name
    assert events == [Message(f"{cache / name}: exists already")]
    assert host.asked == []
    assert contents(cache) == {name: RIGHT}


def test_a_second_fetch_downloads_nothing(host: Host) -> None:
    assert fetch() == fetch()
    assert host.asked == [f"/{PYTORCH_FID}"]


def test_a_fetch_goes_where_the_path_says(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "far" / "away" / "mine.pth"
    monkeypatch.setenv(inception_weights.VARIABLE, str(path))
    assert fetch() == path
    assert contents(tmp_path) == {"far/away/mine.pth": RIGHT}


@pytest.mark.parametrize("action", [fetch, inception.preview])
def test_nothing_is_fetched_to_s3(
    action: Callable[[], object], host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(inception_weights.VARIABLE, URL)
    assert refusal(action).startswith("FACEGAN_INCEPTION: is on S3")
    assert host.asked == []


@pytest.mark.parametrize("action", [fetch, inception.preview])
def test_another_file_is_not_overwritten(
    action: Callable[[], object], host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "thesis.tex", b"dear")
    monkeypatch.setenv(inception_weights.VARIABLE, str(path))
    line = refusal(action)
    assert line.startswith(f"{path}: is another file")
    assert line.endswith("move it away, then: facegan fetch inception")
    assert path.read_bytes() == b"dear"
    assert host.asked == []


@pytest.mark.parametrize("first", [None, WRONG, b"<html>", b""])
def test_where_the_first_address_fails_the_second_is_asked(
    first: bytes | None, host: Host, cache: Path
) -> None:
    del host.files[f"/{PYTORCH_FID}"]
    if first is not None:
        host.files[f"/{PYTORCH_FID}"] = first
    assert fetch() == cache / PYTORCH_FID
    assert contents(cache) == {PYTORCH_FID: RIGHT}
    assert host.asked == [f"/{PYTORCH_FID}", f"/{TORCH_FIDELITY}"]


def failed(cache: Path) -> str:
    """The line in which a fetch ends that leaves nothing."""
    line = refusal(fetch)
    assert contents(cache) == {}
    assert line.startswith("inception: cannot be downloaded (127.0.0.1:")
    manually = f"get {inception_weights.ADDRESSES[0]} yourself and name the copy"
    assert line.endswith(f"{manually}: FACEGAN_INCEPTION=PATH")
    return line


def test_other_bytes_from_the_server_leave_nothing(host: Host, cache: Path) -> None:
    host.files = dict.fromkeys(host.files, WRONG)
    line = failed(cache)
    assert "invalid hash value" in line and digest(WRONG) in line and digest(RIGHT) in line


@pytest.mark.parametrize("cut", [0, 1, len(RIGHT) - 1])
def test_a_download_that_breaks_off_leaves_nothing(cut: int, host: Host, cache: Path) -> None:
    host.cut = cut
    assert "invalid hash value" in failed(cache)


def test_a_server_that_refuses_leaves_nothing(host: Host, cache: Path) -> None:
    host.files = {}
    assert failed(cache).count("HTTP Error 404: Not Found") == 1


def test_a_server_that_falls_silent_leaves_nothing(
    host: Host, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inception, "TIMEOUT", 0.2)
    gone = threading.Event()
    host.cut, host.then = 5000, lambda: gone.wait(60)
    try:
        assert "timed out" in failed(cache)
    finally:
        gone.set()


def test_a_host_that_cannot_be_reached_leaves_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = f"http://127.0.0.1:9/{PYTORCH_FID}"  # the port for discarding: nobody listens
    monkeypatch.setattr(inception_weights, "ADDRESSES", (nobody,))
    assert "Connection refused)" in failed(cache)


def test_an_interrupted_download_leaves_nothing(host: Host, cache: Path) -> None:
    gone = threading.Event()

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        gone.wait(60)

    host.cut, host.then = 5000, interrupt
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job has none
    try:
        with pytest.raises(KeyboardInterrupt):
            fetch()
    finally:
        gone.set()
        signal.signal(signal.SIGINT, handler)
    assert contents(cache) == {}


def test_a_place_that_cannot_be_written_is_named(host: Host, cache: Path) -> None:
    cache.mkdir(parents=True)
    with unprivileged(cache):
        line = refusal(fetch)
    assert line == f"{cache / PYTORCH_FID}: cannot be written (Permission denied)"


def test_a_preview_names_address_size_and_place_and_downloads_nothing(
    host: Host, cache: Path, tmp_path: Path
) -> None:
    address = inception_weights.ADDRESSES[0]
    assert inception.preview() == (
        f"95,628,359 bytes would be downloaded from {address} to {cache / PYTORCH_FID}"
    )
    assert host.asked == []
    assert list(tmp_path.iterdir()) == []


def test_a_preview_tells_what_is_there(host: Host, cache: Path) -> None:
    path = fetch()
    host.asked.clear()
    assert inception.preview() == f"{path}: exists already; nothing would be downloaded"
    assert host.asked == []
