"""Moves versions between servers, and uploads lost files again."""

import contextlib
import errno
import os
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from facegan.core.atomic import replacing
from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.register import files, registry, roles
from facegan.register.card import CARD
from facegan.register.exported import MODEL, Exported, contents, require_networks
from facegan.register.lineage import run_of
from facegan.register.promotion import AWAITING, COMPARED, MAX_DESCRIPTION
from facegan.register.registry import (
    APPROVED,
    BY_HAND,
    CHALLENGER,
    CHAMPION,
    GATE,
    GENERATOR,
    SHAPE,
    STAGE,
    Version,
)
from facegan.tracking import runs

ROLES = (APPROVED, BY_HAND, COMPARED, GATE, STAGE)  # tags that say nothing on another server
# What the gate wrote before the card.
DECISION = re.compile(rf"\A({CHAMPION}|{CHALLENGER}|{AWAITING}): .*?(?=^# |\Z)", re.S | re.M)

HEADING = re.compile(r"^# ", re.M)  # of the card


def export(client: MlflowClient, name: str, number: int, out: Path) -> None:
    """Write a version's files, tags, card and run into the folder `out`.

    Raises:
        FaceganError: if `out` exists, there is no such version, or its files are damaged.
    """
    _, version = registry.require(client, name, number)
    if out.exists():
        raise FaceganError(f"{out}: exists; name another folder")
    files.require_present(version)
    run = run_of(client, version)
    record = Exported(
        name=name, version=number, description=version.description, run=version.run,
        tags={key: tag for key, tag in version.tags.items() if key not in ROLES},
        params=dict(run.data.params) if run else {}, metrics=dict(run.data.metrics) if run else {},
        run_tags=_own_tags(dict(run.data.tags)) if run else {},
    )  # fmt: skip
    with replacing(out) as folder:
        folder.mkdir()
        target = folder / MODEL
        target.mkdir()
        try:
            mlflow.artifacts.download_artifacts(version.uri, dst_path=str(target))
        except OSError as error:  # of shutil, without the path and number of its causes
            if (full := os.strerror(errno.ENOSPC)) in str(error):
                raise FaceganError(f"{out}: {full}; free some") from None
            raise
        require_networks(target, record.tags, version.uri)
        for path in contents(target):
            record.sha256[path.relative_to(target).as_posix()] = file_sha256(path)
        record.write(folder)


def _own_tags(tags: dict[str, str]) -> dict[str, str]:
    return {
        k: v for k, v in tags.items() if k.startswith(("facegan.", "mlflow.source", "mlflow.u"))
    }


def import_version(client: MlflowClient, name: str, folder: Path) -> tuple[int, bool]:
    """Register an exported version, without a role.

    Returns:
        The version, and whether it is new: a generator has one version.
    Raises:
        FaceganError: if the folder is not an exported version, a file differs from its hash, or
            the registered model has generators of another image shape.
    """
    record = Exported.read(folder)
    found = registry.read(client, name)
    if existing := found.of_generator(record.tags[GENERATOR]):
        return existing[0].number, False
    if SHAPE in record.tags:
        registry.require_shape(found, record.tags[SHAPE])
    experiment = runs.ensure_experiment(client, name)
    tags = {**record.run_tags, "facegan.imported": record.origin}
    run = client.create_run(experiment, tags=tags, run_name=f"import-{record.run[:6]}")
    try:
        with TemporaryDirectory() as temporary:
            model = shutil.copytree(folder / MODEL, Path(temporary) / MODEL)
            if (card := model / files.EXTRA / CARD).is_file():
                card.write_text(_renamed(card.read_text("utf-8"), record.name, name), "utf-8")
            uri = _upload(client, run, record, model)
    except BaseException:
        with contextlib.suppress(MlflowException):
            client.delete_run(run.info.run_id)
        raise
    version = mlflow.register_model(uri, name, tags=record.tags, await_registration_for=0)
    origin = f"{record.origin}, run {record.run[:8]}" if record.run else record.origin
    text = f"imported {roles.now():%Y-%m-%d %H:%M} from {origin}\n\n"
    text += _renamed(DECISION.sub("", record.description), record.name, name)
    client.update_model_version(name, str(version.version), description=text[:MAX_DESCRIPTION])
    return int(version.version), True


def _upload(client: MlflowClient, run: Run, record: Exported, folder: Path) -> str:
    """Log the run's content and the model.

    Returns:
        The model's URI.
    """
    run_id = run.info.run_id
    for key, value in record.params.items():
        client.log_param(run_id, key, value)
    for metric, score in record.metrics.items():
        client.log_metric(run_id, metric, score)
    experiment = run.info.experiment_id
    model = client.create_logged_model(experiment, "generator", run_id, params=record.tags)
    client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, "READY")
    client.set_terminated(run_id)
    return f"models:/{model.model_id}"


def _renamed(card: str, old: str, new: str) -> str:
    """With the title and the addresses of the model `new`."""
    return re.sub(rf"((?<=\A# )|(?<=models:/)){re.escape(old)}(?=[\n/@])", lambda _: new, card)


def repair(client: MlflowClient, version: Version, trained: Path | None) -> None:
    """Export a version again, and upload its files.

    Args:
        trained: folder of its training; None for the networks that are attached to it.
    Raises:
        FaceganError: if the folder has other networks, or the attached ones are damaged.
    """
    from facegan.register import export as exporting
    from facegan.register.versions import download_networks

    with TemporaryDirectory() as temporary:
        if trained is None:
            trained = download_networks(f"models:/{version.name}/{version.number}", Path(temporary))
        for name, tag in files.NETWORKS.items():
            actual, expected = file_sha256(trained / name), version.tags.get(tag)
            if actual != expected:
                text = f"{trained / name}: sha256 is {actual}; the version has {expected}"
                raise FaceganError(text)
        folder = Path(temporary) / MODEL
        exporting.save_model(trained, _card(version, Path(temporary)), folder)
        try:
            client.log_model_artifacts(version.model, str(folder))
        except MlflowException as error:
            text = f"{version.name} version {version.number}: {str(error).splitlines()[0]}"
            raise FaceganError(text) from None


def _card(version: Version, folder: Path) -> list[Path]:
    """The version's model card; where its file is lost, as the description has it."""
    from facegan.register.versions import download_papers

    if kept := download_papers(version.uri, folder, (CARD,)):
        return kept
    text = HEADING.search(version.description)
    if text is None:  # edited by hand
        return []
    path = folder / CARD
    path.write_text(version.description[text.start() :], "utf-8")
    return [path]
