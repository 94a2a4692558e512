"""The download of the literature's Inception weights."""

import hashlib
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

from facegan.core.atomic import replacing
from facegan.core.errors import FaceganError
from facegan.core.events import OnEvent
from facegan.features.inception_weights import (
    ADDRESSES,
    SHA256,
    SIZE,
    VARIABLE,
    check,
    find_file,
    paths,
)

# Bytes between two events of progress, and the seconds that a server may be silent.
BLOCK, TIMEOUT = 1 << 20, 30.0


class _Failed(Exception):
    """An address did not give the weights; the message says why."""


def fetch_inception(on_event: OnEvent) -> Path:
    """Download the weights to where `inception` looks for them, unless they are there.

    Returns:
        Where they are.
    Raises:
        FaceganError: if that is on S3 or holds another file, or no address gives the right one;
            then nothing is written.
    """
    place, content = find_file()
    if content is not None:
        check(place, content)
        on_event({"event": "message", "text": f"{place}: is there already"})
        return Path(place)
    path = paths()[0]
    try:
        with replacing(path) as temporary:
            _download(temporary, on_event)
    except OSError as error:
        raise FaceganError(f"{path}: cannot be written ({error.strerror})") from None
    return path


def preview() -> str:
    """What `fetch_inception` would bring, in a line for people. Writes and downloads nothing.

    Raises:
        FaceganError: where `fetch_inception` would refuse to begin.
    """
    place, content = find_file()
    if content is None:
        return f"{SIZE:,} bytes would come from {ADDRESSES[0]} to {paths()[0]}"
    check(place, content)
    return f"{place}: is there already; nothing would come"


def _download(file: Path, on_event: OnEvent) -> None:
    """Write `file` from the first address that gives the right bytes."""
    reasons = []
    for address in ADDRESSES:
        try:
            return _bring(address, file, on_event)
        except _Failed as error:
            reasons.append(f"{urlsplit(address).netloc}: {error}")
    by_hand = f"get {ADDRESSES[0]} by hand and name the copy: {VARIABLE}=PATH"
    reason = "; ".join(dict.fromkeys(reasons))
    raise FaceganError(f"inception: cannot be downloaded ({reason}); {by_hand}")


def _bring(address: str, file: Path, on_event: OnEvent) -> None:
    digest, done = hashlib.sha256(), 0
    with file.open("wb") as stream:
        for block, total in _blocks(address):
            stream.write(block)
            digest.update(block)
            done += len(block)
            on_event({"event": "progress", "done": done, "total": total})
    if (found := digest.hexdigest()) != SHA256:
        raise _Failed(f"gave {done:,} bytes with sha256 {found[:12]}..., not {SHA256[:12]}...")


def _blocks(address: str) -> Iterator[tuple[bytes, int]]:
    """The body in blocks, each with the number of bytes that the whole has.

    Raises:
        _Failed: if the server does not give it.
    """
    try:
        with urlopen(address, timeout=TIMEOUT) as response:
            total = response.length or SIZE
            while block := response.read(BLOCK):
                yield block, total
    except (OSError, HTTPException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise _Failed(reason.removeprefix("<urlopen error ").removesuffix(">")) from None
