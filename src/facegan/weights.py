"""Where the weights of the literature's Inception network come from.

`FACEGAN_INCEPTION` names a copy, a path or `s3://BUCKET/KEY`; unset, it is torch's cache, where
other tools that compute FID keep theirs. Only `fetch_inception` downloads.
"""

import hashlib
import io
import os
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import urlopen

from facegan import s3
from facegan.atomic import replacing
from facegan.errors import FaceganError
from facegan.events import OnEvent

if TYPE_CHECKING:
    from torch import Tensor

VARIABLE = "FACEGAN_INCEPTION"
# TensorFlow's inception-2015-12-05, which Heusel et al. 2017 computed FID with, for PyTorch.
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
SIZE = 95_628_359
# The same bytes twice. In torch's cache pytorch-fid keeps the first, torch-fidelity and
# torchmetrics the second, each under the name that it has here.
ADDRESSES = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth",
)
# Bytes between two events of progress, and the seconds that a server may be silent.
BLOCK, TIMEOUT = 1 << 20, 30.0


class _Failed(Exception):
    """An address did not give the weights; the message says why."""


def inception() -> "dict[str, Tensor]":
    """The network's `state_dict`, on the CPU. What is on S3 goes into memory and not to disk.

    Raises:
        FaceganError: if the file is missing, cannot be read, has another sha256, or holds anything
            but tensors by name; nothing in it is executed.
    """
    url = os.environ.get(VARIABLE, "")
    place, content = (url, _object(url)) if url.startswith("s3://") else _file()
    if content is None:
        raise FaceganError(
            f"{place}: not there; get the weights that published FIDs are computed with: facegan "
            f"fetch inception, or name a copy: {VARIABLE}=PATH or {VARIABLE}=s3://BUCKET/KEY"
        )
    _check(place, content)
    try:
        return _state(content)
    except Exception as error:  # torch's unpickler raises whatever the bytes lead it to
        # Not torch's message, which advises to load it without weights_only.
        reason = f"holds no state dict of tensors ({type(error).__name__})"
        raise FaceganError(f"{place}: {reason}; put the right file there") from None


def fetch_inception(on_event: OnEvent) -> Path:
    """Download the weights to where `inception` looks for them, unless they are there.

    Returns:
        Where they are.
    Raises:
        FaceganError: if that is on S3 or holds another file, or no address gives the right one;
            then nothing is written.
    """
    place, content = _file()
    if content is not None:
        _check(place, content)
        on_event({"event": "message", "text": f"{place}: is there already"})
        return Path(place)
    path = _paths()[0]
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
    place, content = _file()
    if content is None:
        return f"{SIZE:,} bytes would come from {ADDRESSES[0]} to {_paths()[0]}"
    _check(place, content)
    return f"{place}: is there already; nothing would come"


def _paths() -> list[Path]:
    """The files that may hold the weights; the first is the one to write."""
    named = os.environ.get(VARIABLE)
    if named and named.startswith("s3://"):
        advice = f"unset it, or name a file: {VARIABLE}=PATH"
        raise FaceganError(f"{VARIABLE}: is on S3, where facegan fetch writes nothing; {advice}")
    if named:
        return [Path(named)]
    from torch.hub import get_dir  # here, because `facegan fetch` of photographs needs no torch

    folder = Path(get_dir()) / "checkpoints"
    return [folder / address.rpartition("/")[2] for address in ADDRESSES]


def _file() -> tuple[str, bytes | None]:
    """The file that is there, by its path, and its bytes; None for those where none is."""
    paths = _paths()
    for path in paths:
        try:
            with path.open("rb") as file:
                return str(path), file.read(SIZE + 1)  # enough to know a file that is too long
        except FileNotFoundError:
            continue
        except OSError as error:
            raise FaceganError(f"{path}: cannot be read ({error.strerror})") from None
    return " or ".join([str(paths[0]), *(path.name for path in paths[1:])]), None


def _object(url: str) -> bytes | None:
    """The object's bytes; None where there is none."""
    _, key = s3.parse(url)
    if not key:
        raise FaceganError(f"{VARIABLE}: {url} is a bucket; write s3://BUCKET/KEY")
    try:
        with s3.open_object(url, key.rpartition("/")[2], SIZE + 1) as stream:  # one request
            return stream.read(SIZE + 1)
    except FileNotFoundError:
        return None


def _check(place: str, content: bytes) -> None:
    if (found := hashlib.sha256(content).hexdigest()) != SHA256:
        what = f"over {SIZE:,} bytes" if len(content) > SIZE else f"sha256 {found[:12]}..."
        reason = f"is another file ({what}, not sha256 {SHA256[:12]}...)"
        advice = "move it away, then: facegan fetch inception"
        if place.startswith("s3://"):
            advice = "put the right one there"
        raise FaceganError(f"{place}: {reason}; {advice}")


def _state(content: bytes) -> "dict[str, Tensor]":
    import torch

    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not state:
        raise TypeError
    if not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in state.items()):
        raise TypeError
    return dict(state)


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
