"""Where the weights of the literature's Inception network come from.

`FACEGAN_INCEPTION` names a copy, a path or `s3://BUCKET/KEY`; unset, it is torch's cache, where
other tools that compute FID keep theirs. Only `fetch_inception` downloads.
"""

import hashlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from facegan.core.errors import FaceganError

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


def inception() -> "dict[str, Tensor]":
    """The network's `state_dict`, on the CPU. What is on S3 goes into memory and not to disk.

    Raises:
        FaceganError: if the file is missing, cannot be read, has another sha256, or holds anything
            but tensors by name; nothing in it is executed.
    """
    url = os.environ.get(VARIABLE, "")
    place, content = (url, _object(url)) if url.startswith("s3://") else find_file()
    if content is None:
        raise FaceganError(
            f"{place}: not there; get the weights that published FIDs are computed with: facegan "
            f"fetch inception, or name a copy: {VARIABLE}=PATH or {VARIABLE}=s3://BUCKET/KEY"
        )
    check(place, content)
    try:
        return _state(content)
    except Exception as error:  # torch's unpickler raises whatever the bytes lead it to
        # Not torch's message, which advises to load it without weights_only.
        reason = f"holds no state dict of tensors ({type(error).__name__})"
        raise FaceganError(f"{place}: {reason}; put the right file there") from None


def paths() -> list[Path]:
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


def find_file() -> tuple[str, bytes | None]:
    """The file that is there, by its path, and its bytes; None for those where none is."""
    found = paths()
    for path in found:
        try:
            with path.open("rb") as file:
                return str(path), file.read(SIZE + 1)  # enough to know a file that is too long
        except FileNotFoundError:
            continue
        except OSError as error:
            raise FaceganError(f"{path}: cannot be read ({error.strerror})") from None
    return " or ".join([str(found[0]), *(path.name for path in found[1:])]), None


def _object(url: str) -> bytes | None:
    """The object's bytes, read with AWS's environment; None where there is none."""
    import fsspec  # here, because few have their weights on S3

    if not url.removeprefix("s3://").partition("/")[2]:
        raise FaceganError(f"{VARIABLE}: {url} is a bucket; write s3://BUCKET/KEY")
    try:
        system = fsspec.filesystem("s3", skip_instance_cache=True)
        return bytes(system.cat_file(url, start=0, end=SIZE + 1))
    except FileNotFoundError:
        return None
    except Exception as error:  # botocore's, aiohttp's and s3fs's; their texts can hold credentials
        advice = "check AWS's credentials and AWS_ENDPOINT_URL"
        raise FaceganError(f"{url}: cannot be read ({type(error).__name__}); {advice}") from None


def check(place: str, content: bytes) -> None:
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
