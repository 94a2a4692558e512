"""What made a version, and the commands that make it again."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, RESOURCE_DOES_NOT_EXIST, ErrorCode

from facegan.core.parsing import parse_json
from facegan.register import registry
from facegan.register.registry import Version
from facegan.tracking.commands import answer
from facegan.tracking.errors import redact
from facegan.tracking.provenance import DIFF
from facegan.tracking.runs import PROVENANCE

COMMIT, DIRTY = "mlflow.source.git.commit", "facegan.dirty"
DEVICE, THREADS = "facegan.device", "facegan.threads"
# MLflow's authentication denies runs that do not exist.
NO_RUN = tuple(map(ErrorCode.Name, (RESOURCE_DOES_NOT_EXIST, PERMISSION_DENIED)))
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
        ("images.npy", version.tags.get(registry.DATA, "unknown")),
        ("run", version.run if run else f"{version.run} is deleted"),
    ]
    known = ("facegan.versions", DEVICE, THREADS, "facegan.machine", "mlflow.user")
    rows += [(key.partition(".")[2], tags[key]) for key in known if key in tags]
    rows += [(k.removeprefix("facegan."), v) for k, v in sorted(tags.items()) if ".dvc." in k]
    rows += sorted(run.data.params.items()) if run else []
    rows += [
        (key.removeprefix("facegan."), value)
        for key, value in sorted(version.tags.items())
        if key.startswith(registry.SCORES)
    ]
    commands = list(_commands(client.tracking_uri, version, tags, commit))
    return rows, commands, list(_missing(client, version, tags, commit))


def run_of(client: MlflowClient, version: Version) -> Run | None:
    """The version's run; None if it is unknown, deleted or denied."""
    try:
        run = client.get_run(version.run) if version.run else None
    except MlflowException as error:
        if error.error_code in NO_RUN:
            return None
        raise
    return run if run is not None and run.info.lifecycle_stage == "active" else None


def commit_of(version: Version, run: Run | None) -> str:
    """The commit of the training; else the one whose scores have this generator; else empty."""
    if run is not None and (commit := run.data.tags.get(COMMIT)):
        return commit
    sha256 = version.tags.get(registry.GENERATOR)
    if not sha256:
        return ""
    return answer("git", "log", "-S", sha256, "--format=%H", "--", "*metrics.json").split("\n")[-1]


def _commands(store: str, version: Version, tags: dict[str, str], commit: str) -> Iterator[str]:
    yield f"git clone {shlex.quote(_repository(tags, commit))} again && cd again"
    yield f"git checkout {shlex.quote(commit or 'COMMIT')}"
    yield "make install && . .venv/bin/activate"
    if tags.get(DIRTY) == "true":
        address = shlex.quote(redact(store))
        download = f"mlflow artifacts download -r {version.run} -a {PROVENANCE} -d ."
        yield f"MLFLOW_TRACKING_URI={address} {download}"
        yield f"git apply {PROVENANCE}/{DIFF}"
    if not answer("dvc", "remote", "list") and (folder := answer("dvc", "cache", "dir")):
        yield f"dvc cache dir --local {shlex.quote(folder)}  # there is no remote to pull from"
        yield "dvc checkout data.dvc"
    else:
        yield "dvc pull data.dvc"
    repro = "dvc repro --force evaluate  # without --force, DVC restores outputs that it has"
    yield " ".join([*_environment(tags), repro])
    sha256 = version.tags.get(registry.GENERATOR, "")
    yield f"sha256sum artifacts/train/generator.safetensors  # {sha256 and shlex.quote(sha256)}"


def _repository(tags: dict[str, str], commit: str) -> str:
    """Where the commit is: the run's origin, or this repository if it was not pushed."""
    here = answer("git", "rev-parse", "--show-toplevel")
    if _has(commit) and not answer("git", "branch", "--remotes", "--contains", commit):
        return here
    # Without the mask of a user and password, so that git asks for them.
    return tags.get(REPOSITORY, "").replace("***@", "") or here or "REPOSITORY"


def _environment(tags: dict[str, str]) -> Iterator[str]:
    """What changes the bytes of a training, and is in no file."""
    device = tags.get(DEVICE, "").partition(" ")[0]
    if device:
        yield f"FACEGAN_DEVICE={shlex.quote(device)}"
    if threads := tags.get(THREADS):
        yield f"OMP_NUM_THREADS={shlex.quote(threads)}"


def _has(commit: str) -> bool:
    return bool(commit) and answer("git", "cat-file", "-t", f"{commit}^{{commit}}") == "commit"


def _missing(
    client: MlflowClient, version: Version, tags: dict[str, str], commit: str
) -> Iterator[str]:
    if not commit:
        yield "the commit is not on record, and no commit here has this generator's scores"
    elif not _has(commit):
        yield f"commit {commit[:12]} is not in this repository; git fetch --all may bring it"
    if tags.get(DIRTY) == "true":
        files = {item.path for item in client.list_artifacts(version.run, PROVENANCE)}
        if f"{PROVENANCE}/{DIFF}" not in files:
            yield "the uncommitted changes are not on record"
    if photographs := tags.get(PHOTOGRAPHS):
        if lost := _lost(photographs):
            yield f"{lost} in DVC's cache; dvc fetch may bring them"
    else:
        yield "DVC's hash of the photographs is not on record; the commit's data.dvc has it"


def _lost(md5: str) -> str:
    """Which photographs are not in DVC's cache; empty if all are."""
    listing = cached(md5)
    if listing is None:
        return f"photographs {md5} are not"
    if not md5.endswith(".dir"):
        return ""
    members, folder = parse_json(listing.read_text("utf-8")), listing.parents[1]
    hashes = [member["md5"] for member in members]
    count = sum(not Path(folder, h[:2], h[2:]).is_file() for h in hashes)
    return f"{count:,} of {len(hashes):,} photographs {md5} are not" if count else ""


def cached(md5: str) -> Path | None:
    """The file in DVC's cache with this hash; None if there is none."""
    folder = answer("dvc", "cache", "dir")
    path = Path(folder, "files", "md5", md5[:2], md5[2:])
    return path if folder and path.is_file() else None


def cached_member(md5: str, name: str) -> Path | None:
    """A file of a folder in DVC's cache; None if it is not there."""
    listing = cached(md5)
    if listing is None:
        return None
    members = parse_json(listing.read_text("utf-8"))
    return next((cached(m["md5"]) for m in members if m["relpath"] == name), None)
