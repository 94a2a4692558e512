"""Moves versions between servers, and uploads lost files again."""

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from facegan.core.atomic import replacing
from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.register import files, registry, roles
from facegan.register.lineage import run_of
from facegan.register.promotion import AWAITING, COMPARED, MAX_DESCRIPTION
from facegan.register.registry import (
    APPROVED,
    BY_HAND,
    CHALLENGER,
    CHAMPION,
    GATE,
    GENERATOR,
    STAGE,
    Version,
)

MODEL, RECORD = "model", "version.json"  # in the exported folder
ROLES = (APPROVED, BY_HAND, COMPARED, GATE, STAGE)  # tags that say nothing on another server
# What the gate wrote before the card.
DECISION = re.compile(rf"\A({CHAMPION}|{CHALLENGER}|{AWAITING}): .*?(?=^# |\Z)", re.S | re.M)


def export(client: MlflowClient, name: str, number: int, out: Path) -> None:
    """Write a version's files, tags, card and run into the folder `out`.

    Raises:
        FaceganError: if `out` exists, there is no such version, or its files are damaged.
    """
    _, version = registry.require(client, name, number)
    if out.exists():
        raise FaceganError(f"{out}: exists; name another folder")
    files.require_intact(version)
    run = run_of(client, version)
    record: dict[str, Any] = {
        "name": name,
        "version": number,
        "tags": {key: tag for key, tag in version.tags.items() if key not in ROLES},
        "description": version.description,
        "run": version.run,
        "params": dict(run.data.params) if run else {},
        "metrics": dict(run.data.metrics) if run else {},
        "run_tags": _own_tags(dict(run.data.tags)) if run else {},
    }
    with replacing(out) as folder:
        folder.mkdir()
        target = folder / MODEL
        target.mkdir()
        mlflow.artifacts.download_artifacts(version.uri, dst_path=str(target))
        _check(target, record["tags"], f"{version.uri}")
        record["sha256"] = {
            path.relative_to(target).as_posix(): file_sha256(path)
            for path in sorted(target.rglob("*"))
            if path.is_file()
        }
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", "utf-8")


def _own_tags(tags: dict[str, str]) -> dict[str, str]:
    return {
        k: v for k, v in tags.items() if k.startswith(("facegan.", "mlflow.source", "mlflow.u"))
    }


def _check(folder: Path, tags: dict[str, str], origin: str) -> None:
    for name, tag in files.NETWORKS.items():
        path = folder / files.EXTRA / name
        if (actual := file_sha256(path)) != tags.get(tag):
            raise FaceganError(f"{origin}: {name} has sha256 {actual}, not that of tag {tag}")


def import_version(client: MlflowClient, name: str, folder: Path) -> tuple[int, bool]:
    """Register an exported version, without a role.

    Returns:
        The version, and whether it is new: a generator has one version.
    Raises:
        FaceganError: if the folder is not an exported version, or a file differs from its hash.
    """
    record = _read(folder)
    existing = registry.read(client, name).of_generator(record["tags"][GENERATOR])
    if existing:
        return existing[0].number, False
    experiment = client.get_experiment_by_name(name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
    origin = f"{record['name']} version {record['version']}"
    tags = {**record["run_tags"], "facegan.imported": origin}
    run = client.create_run(experiment_id, tags=tags, run_name=f"import-{record['run'][:6]}")
    run_id = run.info.run_id
    for key, value in record["params"].items():
        client.log_param(run_id, key, value)
    for key, value in record["metrics"].items():
        client.log_metric(run_id, key, value)
    model = client.create_logged_model(experiment_id, "generator", run_id, params=record["tags"])
    client.log_model_artifacts(model.model_id, str(folder / MODEL))
    client.finalize_logged_model(model.model_id, "READY")
    client.set_terminated(run_id)
    uri = f"models:/{model.model_id}"
    version = mlflow.register_model(uri, name, tags=record["tags"], await_registration_for=0)
    source = f"{origin}, run {record['run'][:8]}" if record["run"] else origin
    text = f"imported {roles.now():%Y-%m-%d %H:%M} from {source}\n\n"
    text += _renamed(DECISION.sub("", record["description"]), record["name"], name)
    client.update_model_version(name, str(version.version), description=text[:MAX_DESCRIPTION])
    return int(version.version), True


def _renamed(card: str, old: str, new: str) -> str:
    """With the title and the addresses of the model `new`."""
    return re.sub(rf"((?<=\A# )|(?<=models:/)){re.escape(old)}(?=[\n/@])", lambda _: new, card)


def _read(folder: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text("utf-8"))
        hashes = dict(record["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FaceganError(f"{folder}: not a folder of models export ({error})") from None
    for name, expected in hashes.items():
        path = folder / MODEL / name
        if (actual := file_sha256(path)) != expected:
            raise FaceganError(f"{path}: sha256 is {actual}; {RECORD} has {expected}")
    return record


def repair(client: MlflowClient, version: Version, trained: Path) -> None:
    """Upload a version's files again, from the folder of its training.

    Raises:
        FaceganError: if the folder has other networks.
    """
    from facegan.register import export as exporting

    for name, tag in files.NETWORKS.items():
        if (actual := file_sha256(trained / name)) != (expected := version.tags.get(tag)):
            raise FaceganError(f"{trained / name}: sha256 is {actual}; the version has {expected}")
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / MODEL
        exporting.save_model(trained, [], folder)
        try:
            client.log_model_artifacts(version.model, str(folder))
        except MlflowException as error:
            text = f"{version.name} version {version.number}: {str(error).splitlines()[0]}"
            raise FaceganError(text) from None
