"""What a picture says of its origin: text chunks of a PNG, the comment of a JPEG."""

import json
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from facegan.core.errors import FaceganError
from facegan.core.parsing import parse_json
from facegan.core.paths import require_file
from facegan.photos.decoding import MAX_PIXELS
from facegan.photos.inputs import shown
from facegan.sample.latents import runs
from facegan.sample.opening import Opened

MODEL, VERSION, GENERATOR = "facegan.model", "facegan.version", "facegan.generator"
SEEDS, TRUNCATION, SCORE = "facegan.seeds", "facegan.truncation", "facegan.score"
# Of a table of mixtures: seeds of its rows and columns, and the crossover in pixels.
COARSE, FINE, BELOW = "facegan.coarse", "facegan.fine", "facegan.below"
SHARE = "facegan.share"  # of the second seed, in a picture between two


def describe(opened: Opened, seeds: list[int], truncation: float | None) -> dict[str, str]:
    """What makes the same picture again, and leads back to the training."""
    found = {
        MODEL: opened.model,
        VERSION: "" if opened.version is None else str(opened.version),
        GENERATOR: opened.sha256,
        SEEDS: format_seeds(seeds),
        TRUNCATION: "" if truncation is None else str(truncation),
        SCORE: opened.score,
    }
    return {key: value for key, value in found.items() if value}


def format_seeds(seeds: list[int]) -> str:
    """The shortest text that `latents.parse_seeds` reads as `seeds`.

    >>> format_seeds([1, 5, 6, 7])
    '1,5-7'
    """
    return ",".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs(seeds))


def png_info(text: dict[str, str]) -> PngInfo:
    info = PngInfo()
    for key, value in text.items():
        info.add_itxt(key, value)
    return info


def jpeg_comment(text: dict[str, str]) -> bytes:
    return json.dumps(text).encode()


def read(path: Path) -> dict[str, str]:
    """What a PNG or JPEG of `facegan sample` says of itself.

    Raises:
        FaceganError: if it is no picture, or says nothing.
    """
    require_file(path, "a picture that facegan wrote")
    Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is below that of a large grid
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise FaceganError(f"{path}: {image.width}x{image.height} pixels, too many to read")
            image.load()  # text may follow the pixels
            found = dict(getattr(image, "text", {})) or _of_comment(image.info.get("comment"))
    except FileNotFoundError:
        raise FaceganError(f"{path}: not found; expected a picture that facegan wrote") from None
    except UnidentifiedImageError:
        raise FaceganError(f"{path}: not a PNG or JPEG; expected one that facegan wrote") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise FaceganError(f"{path}: cannot be read ({error})") from None
    # Anybody may have written it: always on one line, without control characters.
    found = {key: shown(str(value)) for key, value in found.items() if key.startswith("facegan.")}
    if GENERATOR not in found:
        raise FaceganError(
            f"{path}: names no generator; either facegan did not write it, or its text was removed"
        )
    return found


def _of_comment(comment: object) -> dict[str, str]:
    try:
        found = parse_json(comment) if isinstance(comment, bytes) else {}
    except ValueError:  # another program's
        return {}
    return found if isinstance(found, dict) else {}
