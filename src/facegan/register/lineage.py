"""What made a version, and the commands that make it again."""

import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from facegan.register import registry
from facegan.register.registry import Version

COMMIT, DIRTY = "mlflow.source.git.commit", "facegan.dirty"
REPOSITORY = "mlflow.source.git.repoURL"
PHOTOGRAPHS = "facegan.dvc.data.data"  # DVC's hash of data/
DATASET = "facegan.dvc.preprocess.dataset"  # DVC's hash of the packed dataset
Rows = list[tuple[str, str]]


def lineage(client: MlflowClient, name: str, number: int) -> tuple[Rows, list[str], list[str]]:
    """
    Returns:
        Rows (name, value); the commands that reproduce the version; what is not at hand for them.
    Raises:
        FaceganError: if there is no such version.
    """
    _, version = registry.require(client, name, number)
    run = run_of(client, version)
    tags = run.data.tags if run else {}
    commit = commit_of(version, run)
    rows = [
        ("generator", version.tags.get(registry.GENERATOR, "unknown")),
        ("registered", f"{version.date:%Y-%m-%d %H:%M} UTC"),
        ("commit", commit + " with uncommitted changes" * (tags.get(DIRTY) == "true")),
        ("photographs", tags.get(PHOTOGRAPHS, "DVC's hash is not recorded")),
        ("images", version.tags.get(registry.DATA, "unknown")),
        ("run", version.run if run else f"{version.run} is deleted"),
    ]
    known = ("facegan.versions", "facegan.device", "facegan.machine", "mlflow.user")
    rows += [(key.partition(".")[2], tags[key]) for key in known if key in tags]
    rows += [(k.removeprefix("facegan."), v) for k, v in sorted(tags.items()) if ".dvc." in k]
    rows += sorted(run.data.params.items()) if run else []
    rows += [
        (key.removeprefix("facegan."), value)
        for key, value in sorted(version.tags.items())
        if key.startswith(registry.SCORES)
    ]
    return rows, list(_commands(version, tags, commit)), list(_missing(tags, commit))


def run_of(client: MlflowClient, version: Version) -> Run | None:
    """The version's run; None if it is unknown or deleted."""
    try:
        run = client.get_run(version.run) if version.run else None
    except MlflowException:
        return None
    return run if run is not None and run.info.lifecycle_stage == "active" else None


def commit_of(version: Version, run: Run | None) -> str:
    """The commit of the training; else the one whose scores have this generator; else empty."""
    if run is not None and (commit := run.data.tags.get(COMMIT)):
        return commit
    sha256 = version.tags.get(registry.GENERATOR, "none")
    return _output("git", "log", "-S", sha256, "--format=%H", "--", "*metrics.json").split("\n")[-1]


def _commands(version: Version, tags: dict[str, str], commit: str) -> Iterator[str]:
    origin = tags.get(REPOSITORY) or "REPOSITORY"
    yield f"git clone {origin} again && cd again"
    yield f"git checkout {commit or 'COMMIT'}"
    if tags.get(DIRTY) == "true":
        yield f"mlflow artifacts download -r {version.run} -a provenance -d ."
        yield "git apply provenance/uncommitted.diff"
    yield "make install && . .venv/bin/activate"
    if not _output("dvc", "remote", "list") and (folder := _output("dvc", "cache", "dir")):
        yield f"dvc cache dir --local {shlex.quote(folder)}  # there is no remote to pull from"
        yield "dvc checkout data.dvc"
    else:
        yield "dvc pull data.dvc"
    yield "dvc repro --force evaluate  # without --force, DVC restores outputs that it has"
    sha256 = version.tags.get(registry.GENERATOR, "")
    yield f"sha256sum artifacts/train/generator.safetensors  # {sha256}"


def _missing(tags: dict[str, str], commit: str) -> Iterator[str]:
    if not commit:
        yield "the commit is not on record, and no commit here has this generator's scores"
    elif subprocess.run(["git", "cat-file", "-e", commit], capture_output=True).returncode:
        yield f"commit {commit[:12]} is not in this repository; git fetch --all may bring it"
    if photographs := tags.get(PHOTOGRAPHS):
        if cached(photographs) is None:
            yield f"photographs {photographs} are not in DVC's cache; dvc fetch may bring them"
    else:
        yield "DVC's hash of the photographs is not on record; the commit's data.dvc has it"


def cached(md5: str) -> Path | None:
    """The file in DVC's cache with this hash; None if there is none."""
    folder = _output("dvc", "cache", "dir")
    path = Path(folder, "files", "md5", md5[:2], md5[2:])
    return path if folder and path.is_file() else None


def cached_member(md5: str, name: str) -> Path | None:
    """A file of a folder in DVC's cache; None if it is not there."""
    listing = cached(md5)
    if listing is None:
        return None
    members = json.loads(listing.read_text("utf-8"))
    return next((cached(m["md5"]) for m in members if m["relpath"] == name), None)


def _output(*command: str) -> str:
    """Output of a command; empty if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
