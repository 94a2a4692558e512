"""What `facegan project` writes."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facegan.core.atomic import replacing
from facegan.core.errors import FaceganError
from facegan.core.pictures import FORMATS, save_picture
from facegan.sample.animation import check_output, write_animation
from facegan.sample.destination import ANIMATIONS, ARRAY, check_file
from facegan.sample.projection import Projection, course

FPS = 25.0


def check(photo: Path, out: Path, latent: Path | None) -> None:
    """
    Raises:
        FaceganError: if nothing can be written there, or the photograph would be replaced.
    """
    if photo.exists() and out.exists() and out.samefile(photo):
        raise FaceganError(f"{out}: is the photograph, which would be lost; name another file")
    if out.suffix.lower() in ANIMATIONS:
        check_output(out, FPS)
    else:
        check_file(out, "picture", (*FORMATS, *ANIMATIONS))
    if latent is not None:
        check_file(latent, "file", (ARRAY,))


def write(
    projection: Projection, photograph: NDArray[np.uint8], out: Path, latent: Path | None
) -> None:
    """Write the picture or the film, and the latent, float32 (latent_dim,)."""
    frames = list(course(projection, photograph))
    if out.suffix.lower() in ANIMATIONS:
        write_animation(iter(frames), out, FPS)
    else:
        save_picture(frames[-1], out)
    if latent is not None:
        with replacing(latent) as temporary, temporary.open("wb") as file:
            np.save(file, projection.z.numpy())
