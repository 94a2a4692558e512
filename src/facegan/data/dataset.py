"""The packed array, memory-mapped and checked."""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facegan.core.errors import FaceganError

# What `preprocess` records of each part. Two files, so that a stage that reads one part alone does
# not run again when the other changes.
RECORDS = {"images": "dataset.json", "holdout": "holdout.json"}


def load_images(folder: Path, part: str = "images") -> Tensor:
    """The `images` or `holdout` part of a preprocessed folder, memory-mapped.

    Returns:
        uint8 (N, H, W, C) on the CPU. Pages are read when they are touched.
    Raises:
        FaceganError: if the file is missing, or is not the one that `preprocess` recorded.
    """
    path = folder / f"{part}.npy"
    advice = "make it again with: dvc repro --force --single-item preprocess"
    try:
        recorded = data_sha256(folder, part)
        with path.open("rb") as file:
            present = hashlib.file_digest(file, "sha256").hexdigest()
        if present != recorded:
            raise ValueError(f"its sha256 is {present[:12]}, {RECORDS[part]} has {recorded[:12]}")
        # Copy-on-write, because torch warns of arrays that cannot be written.
        images = np.load(path, mmap_mode="c", allow_pickle=False)
        if images.dtype != np.uint8 or images.ndim != 4:
            raise ValueError(f"{images.dtype} {images.shape}, not uint8 (N, H, W, C)")
    except (OSError, ValueError) as error:
        raise FaceganError(f"{path}: not usable ({error}); {advice}") from None
    return torch.from_numpy(images)


def data_sha256(folder: Path, part: str = "images") -> str:
    """The sha256 of a part's file, as `preprocess` recorded it.

    Raises:
        FaceganError: if there is no such record.
    """
    return _recorded(folder, part, "sha256")


def preprocessing(folder: Path) -> str:
    """How the photographs became pixels, in words.

    Raises:
        FaceganError: if there is no such record.
    """
    return _recorded(folder, "images", "preprocessing")


def _recorded(folder: Path, part: str, key: str) -> str:
    path = folder / RECORDS[part]
    try:
        return str(json.loads(path.read_text("utf-8"))[key])
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{path}: not usable ({error!r}); make it with: dvc repro preprocess"
        raise FaceganError(message) from None
