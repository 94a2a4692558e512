"""Download of the Inception weights that published FIDs use."""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

from facegan.core.errors import FaceganError
from facegan.core.events import Message, OnEvent
from facegan.features import inception_weights

# Seconds to wait for a server's response.
TIMEOUT = 30.0


def fetch_inception(on_event: OnEvent) -> Path:
    """Download the weights to the path where `inception` looks for them, unless they exist.

    Returns:
        Their path.
    Raises:
        FaceganError: if the path is on S3 or has another file, or if no URL serves the correct
            file; nothing is written then.
    """
    name, content = inception_weights.find_file()
    if content is not None:
        inception_weights.check(name, content)
        on_event(Message(f"{name}: exists already"))
        return Path(name)
    path = inception_weights.paths()[0]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(path)
    except OSError as error:
        raise FaceganError(f"{path}: cannot be written ({error.strerror})") from None
    return path


def preview() -> str:
    """What `fetch_inception` would download, as one line. Writes nothing.

    Raises:
        FaceganError: if `fetch_inception` would refuse to start.
    """
    name, content = inception_weights.find_file()
    if content is None:
        url, path = inception_weights.ADDRESSES[0], inception_weights.paths()[0]
        return f"{inception_weights.SIZE:,} bytes would be downloaded from {url} to {path}"
    inception_weights.check(name, content)
    return f"{name}: exists already; nothing would be downloaded"


def _download(path: Path) -> None:
    """Write `path` from the first URL that serves the correct bytes."""
    from torch.hub import download_url_to_file  # imported here, because previews need no torch

    reasons = []
    for url in inception_weights.ADDRESSES:
        try:
            with _socket_timeout():
                # Writes a temporary file beside `path` and renames it once its sha256 is verified.
                return download_url_to_file(
                    url, str(path), inception_weights.SHA256, sys.stderr.isatty()
                )
        except (URLError, HTTPException, TimeoutError, ConnectionError, RuntimeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            reason = reason.removeprefix("<urlopen error ").removesuffix(">")
            reasons.append(f"{urlsplit(url).netloc}: {reason}")
    manually = f"get {inception_weights.ADDRESSES[0]} yourself and name the copy"
    raise FaceganError(
        f"inception: cannot be downloaded ({'; '.join(dict.fromkeys(reasons))}); "
        f"{manually}: {inception_weights.VARIABLE}=PATH"
    )


@contextmanager
def _socket_timeout() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
