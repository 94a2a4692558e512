"""Networks on disk: safetensors with the configuration as metadata, written atomically."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from facegan.core.atomic import replacing
from facegan.core.errors import FaceganError
from facegan.core.parsing import parse_json
from facegan.core.paths import require_file
from facegan.models.architectures import Generator, build_generator


def save_network(state: dict[str, Tensor], config: dict[str, Any], path: Path) -> None:
    """Write a network's `state_dict` as safetensors, with its build configuration as metadata."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    with replacing(path) as temporary:
        # A single key, because safetensors writes several in random order. Not `save_file`, whose
        # files only their owner can read, and whose errors have no errno.
        content = save(tensors, {"facegan": json.dumps(config, sort_keys=True)})
        temporary.write_bytes(content)


def load_network(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file of `save_network`: its `state_dict`, on the CPU, and the build configuration.

    Raises:
        FaceganError: if the file is missing, a folder, or was not written by `save_network`.
    """
    expected = "a network, such as generator.safetensors in a folder of facegan train"
    require_file(path, expected)
    try:
        with safe_open(path, "pt") as file:
            config = dict(parse_json(file.metadata()["facegan"]))
            return {name: file.get_tensor(name) for name in list(file.keys())}, config
    except FileNotFoundError:
        raise FaceganError(f"{path}: not found; expected {expected}") from None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise FaceganError(f"{path}: not a network written by facegan train ({reason})") from None


def load_generator(path: Path, device: torch.device) -> Generator:
    """Load a generator from a safetensors file, in eval mode.

    Raises:
        FaceganError: if the file is missing or is not a generator of `save_network`.
    """
    state, config = load_network(path)
    try:
        network = build_generator(**config)
        network.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        if isinstance(error, RuntimeError):  # a list of tensors
            layers = f"the layers of {config.get('architecture')} in this version of FaceGAN"
            reason = f"its tensors are not {layers}"
        raise FaceganError(f"{path}: not a generator written by facegan train ({reason})") from None
    return network.to(device).to(memory_format=torch.channels_last).eval()
