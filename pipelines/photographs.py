"""Whether new photographs have arrived where those of a project come from."""

import os
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from dvc.dvcfile import PROJECT_FILE
from dvc.fs import LocalFileSystem
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.repo.reproduce import get_active_graph, plan_repro
from prefect.client.orchestration import get_client

from facegan.core.addresses import public_text
from facegan.core.errors import FaceganError
from pipelines.deployment import find

TAG = "new-photographs"  # of the runs


def watch(watched: "Watched", deployment: str, interval: int) -> None:
    """Start a run when photographs have arrived, and print a line.

    Args:
        interval: seconds between listings.
    """
    problem = found = ""
    while True:
        try:
            key, found = watched.arrived(), ""
            if key and _start_run(deployment, key):
                watched.answer()
                print(f"{deployment}: new photographs in {watched.places}", flush=True)
        except LockError:  # DVC is at work, such as in a run; look again
            found = problem
        except Exception as error:  # of any storage, or the server; the schedule goes on
            text = public_text(str(error)).strip().partition("\n")[0]
            found = text or type(error).__name__
        if found and found != problem:
            print(f"warning: new photographs are not seen: {found}", file=sys.stderr, flush=True)
        problem = found
        time.sleep(interval)


def _start_run(deployment: str, key: str) -> bool:
    """Start a run, unless one was started for the same photographs before.

    Returns:
        False if the deployment is paused, or not there yet.
    """
    with get_client(sync_client=True) as client:
        existing = find(client, deployment)
        if existing is None or existing.paused:
            return False
        client.create_flow_run_from_deployment(existing.id, idempotency_key=key, tags=[TAG])
        return True


class Watched:
    """The sources of a project's photographs: of an import its source, else the folder itself.

    Args:
        repository: the folder of `dvc.yaml`.
    Raises:
        FaceganError: if there are none, or one of them cannot be listed.
    """

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        self.listing = ""  # the last one
        self.answered = ""  # the last one of which nothing more is to be done
        with Repo(str(repository)) as repo:
            self.places = ", ".join(map(str, _sources(repo)))

    def arrived(self) -> str:
        """List the sources, and compare them with what DVC has on record.

        Photographs that arrive one after another are one arrival: two listings must agree.

        Returns:
            What identifies the difference; "" if there is none, or `answer` was called for it.
        Raises:
            Exception: of DVC or the storage, if one of them does not answer or is in use.
        """
        with Repo(str(self.repository)) as repo:
            sources = _sources(repo)
            before, self.listing = self.listing, _listing(sources)
            if self.listing in (self.answered, "") or self.listing != before:
                return ""
            with repo.lock:
                # Not stage.status(), which leaves out what an import depends on.
                if any(source.status() for source in sources):
                    record = [source.hash_info.value for source in sources]
                    return sha256(f"{record} {self.listing}".encode()).hexdigest()
            self.answer()
            return ""

    def answer(self) -> None:
        """Be silent about the last listing from now on."""
        self.answered = self.listing


def _sources(repo: Any) -> list[Any]:
    """What the `.dvc` files follow: DVC's dependency of an import, else the output."""
    stages = repo.stage.collect(str(Path(repo.root_dir) / PROJECT_FILE))
    plan = plan_repro(get_active_graph(repo.index.graph), stages)
    found = [stage for stage in plan if stage.is_data_source]
    for stage in found:
        if stage.is_repo_import:
            raise FaceganError(f"{stage.addressing} is imported from a git repository")
    if not found:
        raise FaceganError(f"no stage of {PROJECT_FILE} has photographs that DVC tracks")
    return [(stage.deps if stage.is_import else stage.outs)[0] for stage in found]


def _listing(sources: list[Any]) -> str:
    """A digest of names, sizes and times; "" if there are no files."""
    entries = sorted(entry for source in sources for entry in _entries(source))
    return sha256("\n".join(entries).encode()).hexdigest() if entries else ""


def _entries(source: Any) -> Iterator[str]:
    if isinstance(source.fs, LocalFileSystem):
        for folder, _, names in os.walk(source.fs_path):
            for name in names:
                path = Path(folder, name)
                found = path.lstat()
                yield f"{path} {found.st_size} {found.st_mtime_ns}"
        return
    storage = source.fs.fs
    storage.invalidate_cache()
    for name, info in storage.find(source.fs_path, detail=True).items():
        yield f"{name} {info.get('size')} {info.get('ETag') or info.get('LastModified')}"
