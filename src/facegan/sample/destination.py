"""Names of output files, checked before the work."""

from collections.abc import Iterable
from pathlib import Path

from facegan.core import outputs
from facegan.core.errors import FaceganError
from facegan.core.pictures import FORMATS

ANIMATIONS = (".gif", ".webp", ".mp4")
ARRAY, ARCHIVE = ".npy", ".zip"


def suffix_of(path: Path) -> str:
    """The suffix, in lower case.

    Raises:
        FaceganError: if the name is a suffix and nothing else, which pathlib takes for a stem.
    """
    if path.name.lower() in (*FORMATS, *ANIMATIONS, ARRAY, ARCHIVE):
        raise FaceganError(f"{path}: is only a suffix; name a file, such as faces{path.name}")
    return path.suffix.lower()


def check_file(path: Path, kind: str, suffixes: Iterable[str]) -> None:
    """
    Args:
        kind: what the file is, for the message.
    Raises:
        FaceganError: if the suffix is another one, or the file cannot be written.
    """
    if suffix_of(path) not in suffixes:
        raise FaceganError(f"{path}: unknown kind of {kind}; valid: {', '.join(suffixes)}")
    outputs.check_file(path)
