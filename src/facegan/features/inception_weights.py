"""Loads the Inception weights that published FIDs use.

`FACEGAN_INCEPTION` may be a path or `s3://BUCKET/KEY`. If it is unset, the weights are looked for
in torch's cache, where other FID tools keep them. Only `fetch_inception` downloads them.
"""

import hashlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from facegan.core.addresses import public
from facegan.core.errors import FaceganError
from facegan.core.paths import require_file
from facegan.core.project import in_project

if TYPE_CHECKING:
    from torch import Tensor


VARIABLE = "FACEGAN_INCEPTION"
# TensorFlow's inception-2015-12-05 (used by Heusel et al. 2017), converted for PyTorch.
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
SIZE = 95_628_359
# Identical files. In torch's cache, pytorch-fid keeps the first, torch-fidelity and torchmetrics
# the second, under these names.
ADDRESSES = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth",
)


def inception() -> "dict[str, Tensor]":
    """Load the network's `state_dict` on the CPU. An object on S3 is read into memory, not to disk.

    Raises:
        FaceganError: if the file is missing, unreadable, has a different sha256, or is not a dict
            of tensors. Nothing in it is executed.
    """
    uri = os.environ.get(VARIABLE, "")
    origin, content = (public(uri), _read_s3(uri)) if uri.startswith("s3://") else find_file()
    if content is None:
        raise FaceganError(
            f"{origin}: not found; download the weights of published FIDs with: facegan fetch "
            f"inception, or name a copy: {VARIABLE}=PATH or {VARIABLE}=s3://BUCKET/KEY"
        )
    check(origin, content)
    try:
        return _load_state_dict(content)
    except Exception as error:  # torch's unpickler can raise anything on arbitrary bytes
        # Without torch's message, which advises loading with weights_only=False.
        reason = f"not a state dict of tensors ({type(error).__name__})"
        raise FaceganError(f"{origin}: {reason}; replace it with the correct file") from None


def paths() -> list[Path]:
    """Candidate paths of the weights; a download goes to the first.

    Raises:
        FaceganError: if FACEGAN_INCEPTION is an s3:// URI.
    """
    configured = os.environ.get(VARIABLE)
    if configured and configured.startswith("s3://"):
        advice = f"unset it, or name a file: {VARIABLE}=PATH"
        raise FaceganError(f"{VARIABLE}: facegan fetch can't write to S3; {advice}")
    if configured:
        return [in_project(Path(configured))]
    from torch.hub import get_dir  # imported late: fetching photographs needs no torch

    folder = Path(get_dir()) / "checkpoints"
    return [folder / address.rpartition("/")[2] for address in ADDRESSES]


def find_file() -> tuple[str, bytes | None]:
    """Path and content of the first candidate that exists; if none does, all paths and None.

    Raises:
        FaceganError: if the file cannot be read.
    """
    candidates = paths()
    for path in candidates:
        require_file(path, "the Inception weights, a .pth file")
        try:
            with path.open("rb") as file:
                return str(path), file.read(SIZE + 1)  # one byte more detects a longer file
        except FileNotFoundError:
            continue
        except OSError as error:
            raise FaceganError(f"{path}: cannot be read ({error.strerror})") from None
    return " or ".join([str(candidates[0]), *(path.name for path in candidates[1:])]), None


def _read_s3(uri: str) -> bytes | None:
    """Content of the object, with AWS's usual environment; None if there is no such object."""
    import fsspec  # imported late: rarely needed

    if not uri.removeprefix("s3://").partition("/")[2]:
        raise FaceganError(f"{VARIABLE}: {public(uri)} is a bucket; expected s3://BUCKET/KEY")
    try:
        filesystem = fsspec.filesystem("s3", skip_instance_cache=True)
        return bytes(filesystem.cat_file(uri, start=0, end=SIZE + 1))
    except FileNotFoundError:
        return None
    except Exception as error:  # botocore, aiohttp, s3fs; their messages can contain credentials
        advice = "check AWS credentials and AWS_ENDPOINT_URL"
        raise FaceganError(
            f"{public(uri)}: cannot be read ({type(error).__name__}); {advice}"
        ) from None


def check(origin: str, content: bytes) -> None:
    """
    Args:
        origin: path or URI, for the message.
    Raises:
        FaceganError: if the sha256 of `content` is not SHA256.
    """
    if (found := hashlib.sha256(content).hexdigest()) != SHA256:
        actual = f"over {SIZE:,} bytes" if len(content) > SIZE else f"sha256 {found[:12]}..."
        reason = f"unexpected content ({actual}, expected sha256 {SHA256[:12]}...)"
        advice = "move it away, then run: facegan fetch inception"
        if origin.startswith("s3://"):
            advice = "replace it with the correct file"
        raise FaceganError(f"{origin}: {reason}; {advice}")


def _load_state_dict(content: bytes) -> "dict[str, Tensor]":
    import torch

    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not state:
        raise TypeError
    if not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in state.items()):
        raise TypeError
    return dict(state)
