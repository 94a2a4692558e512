"""Networks and training states on disk: tensors and plain numbers only, written atomically."""

import hashlib
import io
import json
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from facegan.atomic import replacing
from facegan.errors import FaceganError
from facegan.models.architectures import Generator, build_generator

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


def save_network(state: dict[str, Tensor], config: dict[str, Any], path: Path) -> None:
    """Write a network's `state_dict` as safetensors, what it was built from beside it."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    with replacing(path) as temporary:
        # One key, because safetensors writes several in random order.
        save_file(tensors, temporary, {"facegan": json.dumps(config, sort_keys=True)})


def load_network(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_network` wrote: a `state_dict`, and what the network was built from.

    Raises:
        FaceganError: if the file is missing or is no such network.
    """
    try:
        with safe_open(path, "pt") as file:
            config = dict(json.loads(file.metadata()["facegan"]))
            return {name: file.get_tensor(name) for name in list(file.keys())}, config
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise FaceganError(f"{path}: not a network of this package ({reason})") from None


def load_generator(path: Path, device: torch.device) -> Generator:
    """The generator in a safetensors file, in eval mode.

    Raises:
        FaceganError: if the file is missing or holds no such generator.
    """
    state, config = load_network(path)
    try:
        network = build_generator(**config)
        network.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise FaceganError(f"{path}: not a generator of this package ({reason})") from None
    return network.to(device).to(memory_format=torch.channels_last).eval()


def file_sha256(path: Path) -> str:
    """
    Raises:
        FaceganError: if there is no such file.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FaceganError(f"{path}: cannot be read ({error.strerror})") from None


def source_sha256(modules: Iterable[ModuleType]) -> str:
    """One digest of the source files of `modules`."""
    paths = sorted(Path(str(module.__file__)) for module in modules)
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def fingerprint(parts: dict[str, Any]) -> str:
    """The identity of what `parts`, plain JSON values, describe: 16 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
