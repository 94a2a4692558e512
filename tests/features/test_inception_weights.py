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


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's cache, empty; the expected weights are `CORRECT`."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv(inception_weights.VARIABLE, raising=False)
    monkeypatch.setattr(inception_weights, "SHA256", digest(CORRECT))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
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


def fetch() -> Path:
    return inception.fetch_inception(silent)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)


def test_the_published_names_contain_the_expected_hash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    assert [address.rpartition("/")[2] for address in inception_weights.ADDRESSES] == [
        PYTORCH_FID,
        TORCH_FIDELITY,
    ]
    assert all(inception_weights.SHA256[:8] in address for address in inception_weights.ADDRESSES)
    assert len(inception_weights.SHA256) == len(digest(b""))


# Loading.


@pytest.mark.parametrize("name", [PYTORCH_FID, TORCH_FIDELITY])
def test_the_cache_is_searched_for_the_name_of_either_tool(name: str, cache: Path) -> None:
    put(cache / name, CORRECT)
    assert same(inception_weights.inception(), STATE)


def test_a_configured_path_takes_precedence_over_the_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache / PYTORCH_FID, CORRUPT)
    monkeypatch.setenv(inception_weights.VARIABLE, str(put(tmp_path / "mine.pth", CORRECT)))
    assert same(inception_weights.inception(), STATE)


def test_an_empty_variable_counts_as_unset(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(inception_weights.VARIABLE, "")
    put(cache / PYTORCH_FID, CORRECT)
    assert same(inception_weights.inception(), STATE)


@given(
    shapes=st.dictionaries(st.text(), st.lists(st.integers(0, 3), max_size=4), min_size=1),
    legacy=st.booleans(),
    seed=st.integers(0, 99),
)
def test_tensors_load_unchanged_also_from_torchs_legacy_format(
    shapes: dict[str, list[int]],
    legacy: bool,
    seed: int,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = torch.Generator().manual_seed(seed)
    state = OrderedDict((k, torch.randn(shape, generator=rng)) for k, shape in shapes.items())
    content = saved(state, legacy)
    monkeypatch.setattr(inception_weights, "SHA256", digest(content))
    put(cache / PYTORCH_FID, content)
    assert same(inception_weights.inception(), state)


@given(offset=st.integers(0, len(CORRECT) - 1), difference=st.integers(1, 255))
def test_a_single_changed_byte_is_detected(offset: int, difference: int, cache: Path) -> None:
    content = CORRECT[:offset] + bytes([CORRECT[offset] ^ difference]) + CORRECT[offset + 1 :]
    put(cache / PYTORCH_FID, content)
    line = error_line(inception_weights.inception)
    assert line.startswith(f"{cache / PYTORCH_FID}: unexpected content")
    assert digest(content)[:12] in line
    assert digest(CORRECT)[:12] in line


def test_an_oversized_file_is_not_read_to_its_end(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inception_weights, "SIZE", 1 << 20)
    os.truncate(put(cache / PYTORCH_FID, b""), 1 << 42)  # sparse, larger than memory
    assert "unexpected content (over 1,048,576 bytes, expected" in error_line(
        inception_weights.inception
    )


def names_all_ways(line: str) -> bool:
    ways = "facegan fetch inception", "FACEGAN_INCEPTION=PATH", "FACEGAN_INCEPTION=s3://"
    return all(way in line for way in ways)


def test_an_empty_cache_is_reported_with_all_ways_to_get_the_weights_and_no_download(
    host: Host, cache: Path
) -> None:
    line = error_line(inception_weights.inception)
    assert line.startswith(f"{cache / PYTORCH_FID} or {TORCH_FIDELITY}: not found; ")
    assert names_all_ways(line)
    assert host.requested == []


def test_a_missing_path_is_reported_and_the_cache_not_used_instead(
    host: Host, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache / PYTORCH_FID, CORRECT)
    monkeypatch.setenv(inception_weights.VARIABLE, "absent.pth")
    line = error_line(inception_weights.inception)
    assert line.startswith("absent.pth: not found; ")
    assert names_all_ways(line)
    assert host.requested == []


def test_a_folder_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(inception_weights.VARIABLE, str(tmp_path))
    assert error_line(inception_weights.inception) == f"{tmp_path}: cannot be read (Is a directory)"


@pytest.mark.parametrize("closed", ["file", "folder"])
def test_an_unreadable_file_is_reported(closed: str, cache: Path) -> None:
    path = put(cache / PYTORCH_FID, CORRECT)
    (path if closed == "file" else cache).chmod(0)
    try:
        with unprivileged(*([cache] if closed == "file" else [cache.parent])):
            line = error_line(inception_weights.inception)
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
def test_anything_but_a_dict_of_tensors_is_rejected_and_not_executed(
    state: object, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = put(cache / PYTORCH_FID, saved(state))
    monkeypatch.setattr(inception_weights, "SHA256", digest(path.read_bytes()))
    line = error_line(inception_weights.inception)
    assert line.startswith(f"{path}: not a state dict of tensors (")
    assert not (tmp_path / "executed").exists()


@given(content=st.binary(max_size=100))
def test_arbitrary_bytes_cause_no_traceback(content: bytes, cache: Path) -> None:
    put(cache / PYTORCH_FID, content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception_weights, "SHA256", digest(content))
        assert "not a state dict of tensors" in error_line(inception_weights.inception)


# On S3.

URL = "s3://inception/models/weights.pth"


@pytest.fixture
def bucket(buckets: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Path:
    put(buckets / "inception" / "models" / "weights.pth", CORRECT)
    monkeypatch.setenv(inception_weights.VARIABLE, URL)
    return buckets / "inception"


def test_s3_is_read_in_one_request_and_nothing_is_written_to_disk(
    bucket: Path, proxy: Proxy, tmp_path: Path
) -> None:
    assert same(inception_weights.inception(), STATE)
    assert len(proxy.gets()) == 1
    assert contents(tmp_path) == {}


def test_a_missing_object_is_reported_with_all_ways_to_get_the_weights(
    bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in (f"{URL}h", "s3://nowhere/weights.pth"):
        monkeypatch.setenv(inception_weights.VARIABLE, url)
        line = error_line(inception_weights.inception)
        assert line.startswith(f"{url}: not found; ")
        assert names_all_ways(line)


def test_a_bucket_without_a_key_is_rejected(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(inception_weights.VARIABLE, "s3://inception/")
    assert error_line(inception_weights.inception).endswith("is a bucket; expected s3://BUCKET/KEY")


def test_a_corrupt_object_is_detected_by_its_hash(bucket: Path) -> None:
    put(bucket / "models" / "weights.pth", CORRUPT)
    line = error_line(inception_weights.inception)
    assert line.startswith(
        f"{URL}: unexpected content (sha256 {digest(CORRUPT)[:12]}..., expected "
    )
    assert line.endswith("replace it with the correct file")


def test_an_oversized_object_is_not_downloaded_whole(
    bucket: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inception_weights, "SIZE", 1000)
    assert "over 1,000 bytes" in error_line(inception_weights.inception)
    assert [get.range for get in proxy.gets()] == ["bytes=0-1000"]


def test_a_truncated_body_is_retried(bucket: Path, proxy: Proxy) -> None:
    def truncate(exchange: Exchange) -> None:
        exchange.cut = 5000 if exchange.method == "GET" and len(proxy.gets()) < 3 else None

    proxy.alter = truncate
    assert same(inception_weights.inception(), STATE)
    assert len(proxy.gets()) == 3


def test_denied_access_is_reported_without_the_secret(
    bucket: Path, server: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, server.url, AWS_SECRET_ACCESS_KEY=f"{SECRET}!")
    line = error_line(inception_weights.inception)
    assert line.startswith(f"{URL}: cannot be read (PermissionError); check AWS credentials")
    assert SECRET not in line


# Downloading.


def test_fetch_downloads_into_the_cache(host: Host, cache: Path) -> None:
    assert fetch() == cache / PYTORCH_FID
    assert contents(cache) == {PYTORCH_FID: CORRECT}
    assert same(inception_weights.inception(), STATE)


@pytest.mark.parametrize("name", [PYTORCH_FID, TORCH_FIDELITY])
def test_existing_weights_are_not_downloaded_again(name: str, host: Host, cache: Path) -> None:
    put(cache / name, CORRECT)
    events: list[Any] = []
    assert inception.fetch_inception(events.append) == cache / name
    assert events == [Message(f"{cache / name}: exists already")]
    assert host.requested == []
    assert contents(cache) == {name: CORRECT}


def test_a_second_fetch_downloads_nothing(host: Host) -> None:
    assert fetch() == fetch()
    assert host.requested == [f"/{PYTORCH_FID}"]


def test_fetch_writes_to_the_configured_path(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "far" / "away" / "mine.pth"
    monkeypatch.setenv(inception_weights.VARIABLE, str(path))
    assert fetch() == path
    assert contents(tmp_path) == {"far/away/mine.pth": CORRECT}


@pytest.mark.parametrize("action", [fetch, inception.preview])
def test_fetch_does_not_write_to_s3(
    action: Callable[[], object], host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(inception_weights.VARIABLE, URL)
    assert error_line(action).startswith("FACEGAN_INCEPTION: facegan fetch can't write to S3")
    assert host.requested == []


@pytest.mark.parametrize("action", [fetch, inception.preview])
def test_a_different_file_is_not_overwritten(
    action: Callable[[], object], host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "thesis.tex", b"dear")
    monkeypatch.setenv(inception_weights.VARIABLE, str(path))
    line = error_line(action)
    assert line.startswith(f"{path}: unexpected content")
    assert line.endswith("move it away, then run: facegan fetch inception")
    assert path.read_bytes() == b"dear"
    assert host.requested == []


@pytest.mark.parametrize("first", [None, CORRUPT, b"<html>", b""])
def test_if_the_first_address_fails_the_second_is_used(
    first: bytes | None, host: Host, cache: Path
) -> None:
    del host.files[f"/{PYTORCH_FID}"]
    if first is not None:
        host.files[f"/{PYTORCH_FID}"] = first
    assert fetch() == cache / PYTORCH_FID
    assert contents(cache) == {PYTORCH_FID: CORRECT}
    assert host.requested == [f"/{PYTORCH_FID}", f"/{TORCH_FIDELITY}"]


def failed(cache: Path) -> str:
    """The message of a fetch that fails and leaves no file."""
    line = error_line(fetch)
    assert contents(cache) == {}
    assert line.startswith("inception: cannot be downloaded (127.0.0.1:")
    manually = f"get {inception_weights.ADDRESSES[0]} yourself and name the copy"
    assert line.endswith(f"{manually}: FACEGAN_INCEPTION=PATH")
    return line


def test_a_corrupt_download_leaves_no_file(host: Host, cache: Path) -> None:
    host.files = dict.fromkeys(host.files, CORRUPT)
    line = failed(cache)
    assert "invalid hash value" in line and digest(CORRUPT) in line and digest(CORRECT) in line


@pytest.mark.parametrize("cut", [0, 1, len(CORRECT) - 1])
def test_a_truncated_download_leaves_no_file(cut: int, host: Host, cache: Path) -> None:
    host.cut = cut
    assert "invalid hash value" in failed(cache)


def test_an_http_error_leaves_no_file(host: Host, cache: Path) -> None:
    host.files = {}
    assert failed(cache).count("HTTP Error 404: Not Found") == 1


def test_a_timeout_leaves_no_file(host: Host, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inception, "TIMEOUT", 0.2)
    gone = threading.Event()
    host.cut, host.then = 5000, lambda: gone.wait(60)
    try:
        assert "timed out" in failed(cache)
    finally:
        gone.set()


def test_an_unreachable_host_leaves_no_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = f"http://127.0.0.1:9/{PYTORCH_FID}"  # the discard port: nobody listens
    monkeypatch.setattr(inception_weights, "ADDRESSES", (nobody,))
    assert "Connection refused)" in failed(cache)


def test_an_interrupted_download_leaves_no_file(host: Host, cache: Path) -> None:
    gone = threading.Event()

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        gone.wait(60)

    host.cut, host.then = 5000, interrupt
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            fetch()
    finally:
        gone.set()
        signal.signal(signal.SIGINT, handler)
    assert contents(cache) == {}


def test_an_unwritable_folder_is_reported(host: Host, cache: Path) -> None:
    cache.mkdir(parents=True)
    with unprivileged(cache):
        line = error_line(fetch)
    assert line == f"{cache / PYTORCH_FID}: cannot be written (Permission denied)"


def test_a_preview_names_url_size_and_path_and_downloads_nothing(
    host: Host, cache: Path, tmp_path: Path
) -> None:
    address = inception_weights.ADDRESSES[0]
    assert inception.preview() == (
        f"95,628,359 bytes would be downloaded from {address} to {cache / PYTORCH_FID}"
    )
    assert host.requested == []
    assert list(tmp_path.iterdir()) == []


def test_a_preview_reports_existing_weights(host: Host, cache: Path) -> None:
    path = fetch()
    host.requested.clear()
    assert inception.preview() == f"{path}: exists already; nothing would be downloaded"
    assert host.requested == []


def test_in_an_experiments_copy_a_relative_path_is_that_of_the_original_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "copy"
    (copy / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_EXP_NAME", "sour-newt")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv(inception_weights.VARIABLE, "weights.pth")
    assert inception_weights.paths() == [tmp_path / "weights.pth"]
