"""Objects from S3 to disk: in parallel, going on where an earlier try ended, and verified."""

import hashlib
import re
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path, PurePosixPath
from threading import Lock

from facegan.core.errors import FaceganError
from facegan.core.events import OnEvent
from facegan.photos import s3
from facegan.photos.inputs import MANIFEST, shown

# Bringing small objects is mostly waiting for answers.
THREADS = 8
# Seconds between two events of progress.
INTERVAL = 1.0
# An ETag that is made of MD5s.
MD5S = r"[0-9a-f]{32}(-[1-9]\d*)?"

OnBytes = Callable[[int], None]


def find_files(url: str) -> list[s3.Object]:
    """The objects below `url`, all of which can become files of one folder.

    Raises:
        FaceganError: for the first that can't, by its key.
    """
    objects = list(s3.list_objects(url))
    bucket, _ = s3.parse(url)
    paths: set[str] = set()
    for each in objects:
        reason = None
        if not {"", ".", ".."}.isdisjoint(each.path.split("/")) or "\0" in each.path:
            reason = "would be a file outside of the folder, or one without a name"
        elif each.path.split("/")[0] == MANIFEST:
            reason = f"{MANIFEST} is what facegan fetch itself writes"
        elif each.path in paths:
            reason = "and another object would be the same file"
        paths.add(each.path)
        if reason:
            url = shown(f"s3://{bucket}/{each.key}")
            raise FaceganError(f"{url}: {reason}; rename the object")
    for each in objects:
        for parent in map(str, PurePosixPath(each.path).parents):
            if parent in paths:
                reason = f"{parent} can't be a file and a folder; rename one of the objects"
                raise FaceganError(f"{shown(f's3://{bucket}/{each.key}')}: {reason}")
    return objects


def download_all(
    url: str, objects: Sequence[s3.Object], files: Path, parts: Path, on_event: OnEvent
) -> None:
    """Make the folder `files` hold exactly `objects`; unfinished ones wait in `parts`.

    What an earlier call finished is verified, not brought again.

    Raises:
        FaceganError: at the first object that can't be had or is not what S3 says.
    """
    work = _Work(url, objects, files, parts)
    total = sum(each.size for each in objects)
    with s3.explained(url):
        s3.client()  # before the threads: boto3 can't make two at a time
    before, began = 0, time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        running = {pool.submit(work.run) for _ in range(THREADS)}
        try:
            while running:
                finished, running = wait(running, INTERVAL, FIRST_COMPLETED)
                for thread in finished:
                    thread.result()
                if (seconds := time.monotonic() - began) >= INTERVAL:
                    on_event({"event": "figures", "MB/s": (work.done - before) / seconds / 1e6})
                    before, began = work.done, time.monotonic()
                on_event({"event": "progress", "done": min(work.done, total), "total": total})
        finally:
            work.stopped = True
    on_event({"event": "progress", "done": total, "total": total})
    if work.unverified:
        first, more = shown(min(work.unverified)), len(work.unverified) - 1
        text = f"S3 gives no checksum that can be compared, only the size, for {first}"
        on_event({"event": "message", "text": text + (f" and {more:,} more" if more else "")})


class _Stopped(Exception):
    """Another thread has failed, or the user has had enough."""


class _Work:
    """What the threads share."""

    def __init__(self, url: str, objects: Sequence[s3.Object], files: Path, parts: Path) -> None:
        self.bucket, _ = s3.parse(url)
        self.files, self.parts = files, parts
        for folder in (files, parts):
            folder.mkdir(parents=True, exist_ok=True)
        _remove_others(files, {each.path for each in objects})
        self.queue, self.lock = iter(objects), Lock()
        self.done, self.stopped = 0, False
        self.unverified: list[str] = []

    def run(self) -> None:
        while (each := self._next()) is not None:
            place = self.files / each.path
            place.parent.mkdir(parents=True, exist_ok=True)
            if not download(self.bucket, each, place, self.parts, self._advance):
                self.unverified.append(each.path)

    def _next(self) -> s3.Object | None:
        with self.lock:
            return next(self.queue, None)

    def _advance(self, number: int) -> None:
        if self.stopped:
            raise _Stopped
        with self.lock:
            self.done += number


def _remove_others(folder: Path, wanted: set[str]) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder, then the folder
        if path.is_dir():
            with suppress(OSError):  # not empty
                path.rmdir()
        elif path.relative_to(folder).as_posix() not in wanted:
            path.unlink()


def download(bucket: str, source: s3.Object, place: Path, parts: Path, on_bytes: OnBytes) -> bool:
    """Bring an object to `place`; one that is there is verified, one begun in `parts` goes on.

    Args:
        on_bytes: told how many bytes more are there, those of an earlier try included.
    Returns:
        Whether there was a checksum to compare with, and not only a size.
    Raises:
        FaceganError: if the object can't be had, or is not what S3 says; then nothing of it stays.
    """
    url = shown(f"s3://{bucket}/{source.key}")
    with s3.explained(url):
        for _ in range(s3.ATTEMPTS):
            try:
                return _bring(bucket, source, place, parts, on_bytes)
            except s3.Changed:
                facts = s3.head(bucket, source.key)
                if facts is None:
                    raise FaceganError(f"{url}: is gone since it was listed; fetch again") from None
                source = s3.as_object(facts, source.path)
    raise FaceganError(f"{url}: changes while it is read; fetch it when nobody writes there")


def _bring(bucket: str, source: s3.Object, place: Path, parts: Path, on_bytes: OnBytes) -> bool:
    # Of this content and no other: what is left of an object that has changed since is not used.
    name = hashlib.sha256(f"{source.etag} {source.key}".encode()).hexdigest()
    part, unverified = parts / f"{name}.part", parts / f"{name}.unverified"
    if place.exists():
        fits = _fits(bucket, source, place)
        if fits or (fits is None and unverified.exists()):
            on_bytes(source.size)
            return fits is True
        place.unlink()
    _fill(bucket, source, part, on_bytes)
    fits = _fits(bucket, source, part)
    if fits is False:
        part.unlink()
        reason = "what arrived doesn't have the checksum that S3 gives; fetch again"
        raise FaceganError(f"{shown(f's3://{bucket}/{source.key}')}: {reason}")
    if fits is None:
        unverified.touch()
    part.replace(place)
    return fits is True


def _fill(bucket: str, source: s3.Object, part: Path, on_bytes: OnBytes) -> None:
    with part.open("ab") as file:
        on_bytes(file.tell())
        try:
            for block in s3.blocks(bucket, source, file.tell(), source.size):
                file.write(block)
                on_bytes(len(block))
        except s3.Changed:
            on_bytes(-file.tell())
            part.unlink()
            raise


def _fits(bucket: str, source: s3.Object, file: Path) -> bool | None:
    """Whether `file` is the object; None where its size is all that can be compared.

    Raises:
        Changed: if the object is no longer `source`.
    """
    if file.stat().st_size != source.size:
        return False
    # "Checking object integrity", Amazon S3 User Guide: the ETag is the MD5 of what was sent in
    # one part, or the MD5 of the parts' MD5s, with the number of parts.
    md5, _, parts = source.etag.lower().partition("-")
    if not parts and _digest(file, "md5").hex() == md5:
        return True  # without a request
    facts = s3.head(bucket, source.key, ChecksumMode="ENABLED")
    if facts is None or s3.as_object(facts, source.path) != source:
        raise s3.Changed
    if not parts and "ChecksumSHA256" in facts:
        return b64encode(_digest(file, "sha256")).decode() == str(facts["ChecksumSHA256"])
    # Where KMS encrypts, the ETag is no MD5, and other servers may mean something else by it.
    encrypted = facts.get("ServerSideEncryption", "AES256") != "AES256"
    if encrypted or not re.fullmatch(MD5S, source.etag.lower()):
        return None
    if not parts:
        return False
    fits = None
    for sizes in _part_sizes(bucket, source, int(parts)):
        fits = _md5_of_md5s(file, sizes) == md5
        if fits:
            break
    return fits


def _part_sizes(bucket: str, source: s3.Object, number: int) -> Iterator[list[int]]:
    """The parts' sizes as they nearly always are, equal, and then as asked for one by one.

    Nothing where the server doesn't tell.
    """
    first = s3.part_size(bucket, source.key, 1)
    last = source.size - (number - 1) * first
    if 0 < last <= first or number == 1:
        yield [first] * (number - 1) + [last]
    if 0 < first < source.size:
        sizes = [first, *(s3.part_size(bucket, source.key, n) for n in range(2, number + 1))]
        if sum(sizes) == source.size:
            yield sizes


def _md5_of_md5s(file: Path, sizes: Sequence[int]) -> str:
    digests = hashlib.md5()
    with file.open("rb") as stream:
        for size in sizes:
            digest = hashlib.md5()
            while size and (block := stream.read(min(size, s3.BLOCK))):
                digest.update(block)
                size -= len(block)
            digests.update(digest.digest())
    return digests.hexdigest()


def _digest(file: Path, algorithm: str) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).digest()
