"""Identities: sha256 of files, of source code, of what plain values describe."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from facegan.core.errors import FaceganError


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
