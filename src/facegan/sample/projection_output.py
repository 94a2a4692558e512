"""What `facegan project` writes."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facegan.core.atomic import replacing
from facegan.core.errors import FaceganError
from facegan.core.outputs import check_parent_folder
from facegan.core.pictures import FORMATS, save_picture
from facegan.sample.animation import SUFFIXES, check_output, write_animation
from facegan.sample.projection import Projection, course

FPS = 25.0


def check(photo: Path, out: Path, latent: Path | None) -> None:
    """
    Raises:
        FaceganError: if nothing can be written there, or the photograph would be replaced.
    """
    if photo.exists() and out.exists() and out.samefile(photo):
        raise FaceganError(f"{out}: is the photograph, which would be lost; name another file")
    if out.suffix.lower() in SUFFIXES:
        check_output(out, FPS)
    elif out.suffix.lower() not in FORMATS:
        valid = ", ".join((*FORMATS, *SUFFIXES))
        raise FaceganError(f"{out}: unknown kind of picture; valid: {valid}")
    if latent is not None and latent.suffix.lower() != ".npy":
        raise FaceganError(f"{latent}: unknown kind of file; valid: .npy")
    for path in (out, latent):
        if path is not None and path.is_dir():
            raise FaceganError(f"{path}: is a folder; name a file")
        if path is not None:
            check_parent_folder(path.absolute().parent)


def write(
    projection: Projection, photograph: NDArray[np.uint8], out: Path, latent: Path | None
) -> None:
    """Write the picture or the film, and the latent, float32 (latent_dim,)."""
    frames = list(course(projection, photograph))
    if out.suffix.lower() in SUFFIXES:
        write_animation(iter(frames), out, FPS)
    else:
        save_picture(frames[-1], out)
    if latent is not None:
        with replacing(latent) as temporary, temporary.open("wb") as file:
            np.save(file, projection.z.numpy())
