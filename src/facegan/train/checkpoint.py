"""Training states on disk: tensors and plain numbers only, written atomically."""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from facegan.core.atomic import replacing
from facegan.core.errors import FaceganError

DIGEST = hashlib.sha256().digest_size


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write a nested dict of tensors and plain numbers, its sha256 after it; the one that was
    there stays as the previous one."""
    buffer = io.BytesIO()  # because torch itself hides why a file can't be written
    torch.save(state, buffer)
    content = buffer.getvalue()
    with replacing(path) as temporary:
        temporary.write_bytes(content + hashlib.sha256(content).digest())
        if path.exists():
            path.replace(previous(path))


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """
    Raises:
        FaceganError: if the file is missing or damaged.
    """
    try:
        content = path.read_bytes()
        content, digest = content[:-DIGEST], content[-DIGEST:]
        if hashlib.sha256(content).digest() != digest:
            raise ValueError("its checksum is another")
        state: dict[str, Any] = torch.load(
            io.BytesIO(content), map_location=device, weights_only=True
        )
    except Exception as error:  # torch's unpickler raises whatever the bytes lead it to
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise FaceganError(f"{path}: damaged ({reason})") from None
    return state


def previous(path: Path) -> Path:
    """Where the checkpoint before the one at `path` is."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")
