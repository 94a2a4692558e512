"""Downloading the Inception weights."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from facegan.core.events import Message, silent
from facegan.features import inception_weights
from facegan.fetch import inception
from samples import contents, unprivileged
from weights import (
    CORRECT,
    CORRUPT,
    PYTORCH_FID,
    STATE,
    TORCH_FIDELITY,
    Host,
    digest,
    empty_cache,
    error_line,
    put,
    same,
    serving,
)

URL = "s3://inception/models/weights.pth"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return empty_cache(tmp_path / "torch", monkeypatch)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    with serving(monkeypatch) as host:
        yield host


def fetch() -> Path:
    return inception.fetch_inception(silent)


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
