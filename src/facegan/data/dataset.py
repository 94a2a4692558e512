"""The packed array, memory-mapped and verified."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facegan.core.errors import FaceganError
from facegan.core.parsing import parse_json
from facegan.core.paths import require_folder

# What `preprocess` records of each part. Two files, so that a stage that reads only one part does
# not rerun when the other changes.
RECORDS = {"images": "dataset.json", "holdout": "holdout.json"}


def load_images(folder: Path, part: str = "images") -> Tensor:
    """Load the `images` or `holdout` part of a preprocessed dataset, memory-mapped.

    Returns:
        uint8 (N, H, W, C) on the CPU. Pages are read on first access.
    Raises:
        FaceganError: if the file is missing or differs from what `preprocess` recorded.
    """
    require_folder(folder, "the folder that facegan preprocess wrote")
    path = folder / f"{part}.npy"
    advice = "recreate it with: dvc repro --force --single-item preprocess"
    try:
        recorded = data_sha256(folder, part)
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        if actual != recorded:
            raise ValueError(f"sha256 is {actual[:12]}, {RECORDS[part]} has {recorded[:12]}")
        # Copy-on-write, because torch warns about read-only arrays.
        images = np.load(path, mmap_mode="c", allow_pickle=False)
        if images.dtype != np.uint8 or images.ndim != 4:
            raise ValueError(f"{images.dtype} {images.shape}, expected uint8 (N, H, W, C)")
    except (OSError, ValueError) as error:
        raise FaceganError(f"{path}: not usable ({error}); {advice}") from None
    return torch.from_numpy(images)


def data_sha256(folder: Path, part: str = "images") -> str:
    """The sha256 of a part's file, as `preprocess` recorded it.

    Raises:
        FaceganError: if the record is missing or corrupt.
    """
    return _recorded(folder, part, "sha256")


def preprocessing(folder: Path) -> str:
    """How photographs became pixels, in words, as `preprocess` recorded it.

    Raises:
        FaceganError: if the record is missing or corrupt.
    """
    return _recorded(folder, "images", "preprocessing")


def require_same_data(statistics: Path, metadata: dict[str, Any], folder: Path) -> None:
    """Check that reference statistics were computed on this dataset.

    Args:
        statistics: their file, for the message.
        metadata: of these statistics.
        folder: the preprocessed dataset, perhaps without its held-out part.
    Raises:
        FaceganError: if they were computed on other images, or a record is corrupt.
    """
    for part, record in RECORDS.items():
        if part == "holdout" and not (folder / record).exists():
            continue
        computed_on = metadata.get("data" if part == "images" else part)
        if computed_on != (recorded := data_sha256(folder, part)):
            values = f"{part}.npy was {str(computed_on)[:12]}, is {recorded[:12]}"
            raise FaceganError(
                f"{statistics}: computed on a different dataset than {folder}; "
                f"run again: dvc repro reference ({values})"
            )


def _recorded(folder: Path, part: str, key: str) -> str:
    path = folder / RECORDS[part]
    try:
        return str(parse_json(path.read_text("utf-8"))[key])
    except OSError as error:
        reason = str(error.strerror)
    except (ValueError, KeyError, TypeError):
        reason = f"has no {key} of an array"
    message = f"{path}: not usable ({reason}); create it with: dvc repro preprocess"
    raise FaceganError(f"{message}, or name the folder that it wrote")
