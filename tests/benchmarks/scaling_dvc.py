"""What DVC costs on many files in a folder, and on the same photographs in zips."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks import cost, scaling_photographs
from benchmarks.harness import Line
from buckets import credentials, rclone
from infra.stack import DVC_FOLDERS

NEW = 100  # photographs added to those that DVC knows
S3_LIMIT = 10_000  # files pushed to an S3 server: it takes a request and more for each


def run(folder: Path, photographs: Path, count: int) -> Iterator[Line]:
    """All commands in a new repository; `photographs` is moved there, and back.

    Args:
        folder: for the repository and its remotes, on the photographs' disk.
    """
    project = Project(folder / f"project-{count}")
    data = project.folder / "data"
    photographs.rename(data)
    try:
        yield project.line("add", count)
        yield project.line("status", count)
        yield project.line("push to a folder", count, "push", "--remote", "folder")
        yield project.line("push, nothing new", count, "push", "--remote", "folder")
        if count <= S3_LIMIT:
            yield from _push_to_s3(project, count)
        scaling_photographs.write(data, count + NEW)
        yield project.line(f"add {NEW} more", count, "add", "data")
        yield project.line(f"push {NEW} more", count, "push", "--remote", "folder")
    finally:
        for number in range(count, count + NEW):
            (data / f"{number:07}.jpg").unlink(missing_ok=True)
        data.rename(photographs)
        shutil.rmtree(project.folder)


def archives(folder: Path, zips: Path, count: int) -> Iterator[Line]:
    """The same commands on zips."""
    project = Project(folder / f"project-zips-{count}")
    zips.rename(project.folder / "data")
    try:
        for command in ("add", "status"):
            yield project.line(command, count, prefix="zips: ")
        yield project.line("push to a folder", count, "push", "--remote", "folder", prefix="zips: ")
    finally:
        (project.folder / "data").rename(zips)
        shutil.rmtree(project.folder)


def _push_to_s3(project: "Project", count: int) -> Iterator[Line]:
    buckets = project.folder / "s3" / "root"
    for name in DVC_FOLDERS:
        (buckets / name).mkdir(parents=True)
    with rclone(buckets) as url:
        # Other profiles are of no account here, and DVC refuses an empty file of them.
        access = {k: v for k, v in credentials(url).items() if not k.endswith("_FILE")}
        yield project.line("push to S3", count, "push", "--remote", "s3", environment=access)


class Project:
    """A DVC repository with its cache, and a folder and a bucket as remotes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.environment = {
            "DVC_NO_ANALYTICS": "1",
            # Else what one measurement has hashed is known to the next.
            "DVC_SITE_CACHE_DIR": str(folder / "site"),
        }
        self._dvc("init", "--no-scm")
        self._dvc("config", "core.check_update", "false")
        self._dvc("remote", "add", "folder", str(folder / "remote"))
        self._dvc("remote", "add", "s3", "s3://dvc")

    def line(
        self,
        name: str,
        count: int,
        *arguments: str,
        prefix: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> Line:
        os.sync()
        words = arguments or ((name, "data") if name == "add" else (name, "data.dvc"))
        spent = self._dvc(*words, environment=environment)
        return cost.line(f"dvc {prefix}{name}, {count:,}", spent, count, "file")

    def _dvc(self, *words: str, environment: Mapping[str, str] | None = None) -> cost.Cost:
        command = [sys.executable, "-m", "dvc", *words, "--quiet"]
        log = self.folder / "log"
        return cost.run(command, log, {**self.environment, **(environment or {})}, self.folder)
