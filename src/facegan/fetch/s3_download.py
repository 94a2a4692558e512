"""S3 objects to disk with s3transfer; files that an interrupted download completed are kept."""

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from itertools import islice
from pathlib import Path, PurePosixPath
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any

from facegan.core.atomic import replacing
from facegan.core.errors import FaceganError
from facegan.core.events import Metrics, OnEvent, Progress
from facegan.core.parsing import parse_json
from facegan.photos import s3
from facegan.photos.inputs import (
    MANIFEST,
    REPOSITORY,
    is_clutter,
    repository_of,
    shown,
    stored_name,
)

# Seconds between two progress events while no object completes, and between two of the speed.
INTERVAL = 1.0
# Objects submitted at a time, because s3transfer blocks when its queue is full.
QUEUED = 100
# Larger objects are downloaded in parallel parts of this size. Not 8 MiB: only whole objects have
# checksums, and a server may read the whole object for each part, as rclone does for the ETag.
PART = 64 << 20

CHANGED = "changed during the download; fetch again when nobody is writing to it"
BROKEN = "size or checksum mismatch; fetch again"


def find_files(url: str) -> tuple[list[s3.Object], dict[str, str]]:
    """The objects below `url` that can be files in one folder, and path -> status of the others.

    Statuses: `in-glacier`; `repository` for a repository's own folder; and `name-conflict` for an
    object that would be stored where another one is, or in `source.json`.
    """
    found, skipped = [], dict[str, str]()
    files, folders = set[str](), set[str]()
    for obj in sorted(s3.list_objects(url), key=lambda obj: obj.path):
        if is_clutter(obj.path):
            continue
        if repository := repository_of(obj.path):
            skipped[repository] = REPOSITORY
            continue
        stored = stored_name(obj.path)
        parents = set(map(str, PurePosixPath(stored).parents)) - {"."}
        if stored == MANIFEST:
            continue  # written by an earlier fetch; not an input
        if obj.status is not None:
            skipped[obj.path] = obj.status
        elif (
            stored in files
            or stored in folders
            or not parents.isdisjoint(files)
            or MANIFEST in parents
        ):
            skipped[obj.path] = "name-conflict"
        else:
            found.append(obj)
            files.add(stored)
            folders |= parents
    return found, skipped


def download_all(
    url: str, objects: Sequence[s3.Object], files: Path, parts: Path, on_event: OnEvent
) -> None:
    """Make the folder `files` contain exactly `objects`.

    Files are named by `stored_name`. A file completed by an earlier call is kept if its object
    still has the same size and ETag. If objects change or arrive corrupt, the others are downloaded
    first, then these, listed again.

    Args:
        parts: folder for partial files and for the list of the objects in `files`.
    Raises:
        FaceganError: for the first object that cannot be downloaded.
    """
    for folder in (files, parts):
        folder.mkdir(parents=True, exist_ok=True)
    for _ in range(s3.ATTEMPTS):
        objects = [replace(obj, path=stored_name(obj.path)) for obj in objects]
        missing = _keep_completed(objects, files, parts / "objects.json")
        transfers = _Transfers(url, missing, files, parts)
        transfers.run(sum(obj.size for obj in objects), on_event)
        if not transfers.failed:
            return
        objects, _ = find_files(url)
    url, reason = min(transfers.failed.items())
    raise FaceganError(f"{shown(url)}: {reason}")


def _keep_completed(objects: Sequence[s3.Object], files: Path, record: Path) -> list[s3.Object]:
    """Delete from `files` what does not match `objects`; return the objects still missing."""
    try:
        recorded = parse_json(record.read_bytes())
    except (FileNotFoundError, ValueError):
        recorded = {}
    expected = {obj.path: [obj.size, obj.etag] for obj in objects}
    sizes, completed = {obj.path: obj.size for obj in objects}, set()
    for path in sorted(files.rglob("*"), reverse=True):  # children before parents
        name = path.relative_to(files).as_posix()
        if path.is_dir():
            with suppress(OSError):  # not empty
                path.rmdir()
        elif expected.get(name) == recorded.get(name, ()) and path.stat().st_size == sizes[name]:
            completed.add(name)
        else:
            path.unlink()
    # Before the downloads, because a file gets its final name only when complete.
    with replacing(record) as temporary:
        temporary.write_text(json.dumps(expected), "utf-8")
    return [obj for obj in objects if obj.path not in completed]


class _Transfers:
    """Downloads of `objects`. s3transfer calls the `on_` methods from its own threads."""

    def __init__(self, url: str, objects: Sequence[s3.Object], files: Path, parts: Path) -> None:
        self.bucket, _ = s3.parse(url)
        self.objects = {obj.key: obj for obj in objects}
        self.files, self.parts = files, parts
        self.done, self.lock, self.completed = 0, Lock(), SimpleQueue[Any]()
        self.failed: dict[str, str] = {}  # URL -> reason

    def on_queued(self, future: Any, **_: object) -> None:
        obj = self.objects[future.meta.call_args.key]
        future.meta.provide_transfer_size(obj.size)  # without both, s3transfer requests them
        future.meta.provide_object_etag(f'"{obj.etag}"' if obj.etag else None)

    def on_progress(self, bytes_transferred: int, **_: object) -> None:
        with self.lock:
            self.done += bytes_transferred

    def on_done(self, future: Any, **_: object) -> None:
        self.completed.put(future)

    def run(self, total: int, on_event: OnEvent) -> None:
        self.done = before = total - sum(obj.size for obj in self.objects.values())
        waiting, remaining = iter(self.objects.values()), len(self.objects)
        start = time.monotonic()
        with self._manager() as manager:  # cancels all transfers on an exception
            for obj in islice(waiting, QUEUED):
                self._submit(manager, obj)
            while remaining:
                with suppress(Empty):
                    self._check(self.completed.get(timeout=INTERVAL))
                    remaining -= 1
                    for obj in islice(waiting, 1):
                        self._submit(manager, obj)
                if (seconds := time.monotonic() - start) >= INTERVAL:
                    on_event(Metrics({"MB/s": (self.done - before) / seconds / 1e6}))
                    before, start = self.done, time.monotonic()
                on_event(Progress(min(self.done, total), total))

    def _manager(self) -> Any:
        from s3transfer.manager import TransferConfig, TransferManager
        from s3transfer.utils import OSUtils

        osutil = OSUtils()
        # s3transfer would put these among the files, with names that may be too long.
        osutil.get_temp_filename = lambda name: str(
            self.parts / sha256(os.fsencode(name)).hexdigest()
        )
        config = TransferConfig(
            multipart_threshold=PART, multipart_chunksize=PART, max_io_queue_size=100
        )
        with s3.translate_errors(f"s3://{self.bucket}"):
            manager = TransferManager(s3.client(), config, osutil)
        manager.ALLOWED_DOWNLOAD_ARGS = [*manager.ALLOWED_DOWNLOAD_ARGS, "IfMatch"]
        return manager

    def _submit(self, manager: Any, obj: s3.Object) -> None:
        path = self.files / obj.path
        path.parent.mkdir(parents=True, exist_ok=True)
        manager.download(self.bucket, obj.key, str(path), obj.condition, [self])

    def _check(self, future: Any) -> None:
        from botocore.exceptions import FlexibleChecksumError
        from s3transfer.exceptions import S3DownloadFailedError, S3ValidationError

        obj = self.objects[future.meta.call_args.key]
        path, url = self.files / obj.path, f"s3://{self.bucket}/{obj.key}"
        with s3.translate_errors(url):
            try:
                future.result()
            except S3DownloadFailedError:  # If-Match failed
                self.failed[url] = CHANGED
            except (FlexibleChecksumError, S3ValidationError):
                self.failed[url] = BROKEN
            else:
                if path.stat().st_size != obj.size:
                    path.unlink()
                    self.failed[url] = BROKEN
