"""Checkpoint files: tensors and plain numbers only, written atomically."""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from facegan.core.atomic import replacing
from facegan.core.errors import FaceganError
from facegan.core.events import Message, OnEvent

DIGEST_SIZE = hashlib.sha256().digest_size


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write a nested dict of tensors and plain numbers, followed by its sha256.

    An existing checkpoint is kept as the previous one.
    """
    buffer = io.BytesIO()  # torch.save to a file hides why it cannot be written
    torch.save(state, buffer)
    content = buffer.getvalue()
    with replacing(path) as temporary:
        temporary.write_bytes(content + hashlib.sha256(content).digest())
        if path.exists():
            path.replace(previous(path))


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a file of `save_checkpoint`, with its tensors on `device`.

    Raises:
        FaceganError: if the file is missing or damaged.
    """
    try:
        content = path.read_bytes()
        content, digest = content[:-DIGEST_SIZE], content[-DIGEST_SIZE:]
        if hashlib.sha256(content).digest() != digest:
            raise ValueError("checksum mismatch")
        state: dict[str, Any] = torch.load(
            io.BytesIO(content), map_location=device, weights_only=True
        )
    except Exception as error:  # the unpickler raises anything on arbitrary bytes
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise FaceganError(f"{path}: damaged ({reason})") from None
    return state


def load_newest(path: Path, device: torch.device, on_event: OnEvent) -> dict[str, Any] | None:
    """The checkpoint at `path`, or the previous one if that is missing or damaged; else None."""
    for candidate in (path, previous(path)):
        if candidate.exists():
            try:
                return load_checkpoint(candidate, device)
            except FaceganError as error:
                text = f"{error}; skipped"
                on_event(Message(text))
    return None


def previous(path: Path) -> Path:
    """The path of the checkpoint before the one at `path`."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")
