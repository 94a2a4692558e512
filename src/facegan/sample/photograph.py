"""One photograph, packed as `preprocess` packs it."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facegan.core.errors import FaceganError
from facegan.core.paths import require_file
from facegan.models.architectures import Generator
from facegan.params import Preprocess
from facegan.photos.inputs import Input, SingleFile
from facegan.preprocess.packing import pack_inputs


def read_photograph(path: Path, params: Preprocess, network: Generator) -> NDArray[np.uint8]:
    """Crop and resize a photograph as those of the training: uint8 (H, W, C) of the generator.

    Raises:
        FaceganError: if it is not there, no photograph, or too small.
    """
    require_file(path, "a photograph")
    if not path.is_file():
        raise FaceganError(f"{path}: not found; expected a photograph")
    fitting = params.model_copy(
        update={"resolution": network.size, "channels": network.channels, "near_duplicates": None}
    )
    (row,), pixels = pack_inputs(SingleFile(path), [Input(path.name, path.name)], fitting)
    if row.status == "too-small":
        size = f"{row.width}x{row.height} pixels"
        raise FaceganError(f"{path}: {size}; preprocess.min_side is {params.min_side}")
    if row.status is not None:
        raise FaceganError(f"{path}: {row.status}; expected a photograph")
    packed: NDArray[np.uint8] = pixels[0]
    return packed
