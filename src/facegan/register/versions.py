"""Loads generators from MLflow's registry."""

import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    PERMISSION_DENIED,
    RESOURCE_DOES_NOT_EXIST,
    ErrorCode,
)

from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.models.architectures import Generator
from facegan.models.files import load_generator
from facegan.register import files, registry
from facegan.register.files import NETWORKS
from facegan.register.registry import Version
from facegan.register.scores import WEIGHTS
from facegan.tracking import connection

# Of a version; MLflow's databases have no larger integers.
NUMBER = re.compile(r"\d{1,9}")
# An alias that does not exist is an invalid value to MLflow, and a model that does not exist is
# denied by its authentication.
ABSENT = tuple(
    map(ErrorCode.Name, (RESOURCE_DOES_NOT_EXIST, INVALID_PARAMETER_VALUE, PERMISSION_DENIED))
)


def load(uri: str, device: torch.device) -> Generator:
    """Load the generator of `models:/NAME/3`, `models:/NAME/Production` or `models:/NAME@champion`.

    `models:/NAME/latest` is the last version, as in MLflow. The generator is loaded from the
    version's safetensors file, after its hash is checked. Nothing is unpickled.

    Raises:
        FaceganError: if there is no such version, or the hash does not match the version's tag.
    """
    client = connection.connect(create=False)
    with connection.translate_errors(), TemporaryDirectory() as folder:
        return load_version(resolve(client, uri), Path(folder), device)


def resolve(client: MlflowClient, uri: str) -> Version:
    """Find the version of a model URI.

    Raises:
        FaceganError: if it is not a model URI, or there is no such version.
    """
    pattern = r"models:/(?P<name>[^/@]+)(/(?P<stage>[^/@]+)|@(?P<alias>[^/@]+))"
    match = re.fullmatch(pattern, uri)
    if match is None:
        valid = "models:/NAME/VERSION, models:/NAME/STAGE, models:/NAME/latest, models:/NAME@ALIAS"
        raise FaceganError(f"{uri}: not a model URI; valid: {valid}")
    name, stage, alias = match.group("name", "stage", "alias")
    try:
        if alias:
            return Version.of(client.get_model_version_by_alias(name, alias))
        if NUMBER.fullmatch(stage):
            return Version.of(client.get_model_version(name, stage))
        if version := _latest(client, name, stage):
            return version
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise
    raise FaceganError(f"{_absent(client, uri, name, stage, alias)}{registry.workspace()}")


def _latest(client: MlflowClient, name: str, stage: str) -> Version | None:
    """The last version in a stage; with stage `latest`, of all."""
    if stage.lower() == "latest":
        order = ["version_number DESC"]
        found = client.search_model_versions(connection.named(name), 1, order)
    else:
        with warnings.catch_warnings():  # stages are deprecated, and what people use
            warnings.simplefilter("ignore", FutureWarning)
            found = client.get_latest_versions(name, [stage])
    return Version.of(found[0]) if found else None


def _absent(client: MlflowClient, uri: str, name: str, stage: str, alias: str) -> str:
    """Why a URI leads to no version, and what would."""
    found = registry.read(client, name)
    if not found.versions:
        return f"{uri}: not found; no version of {name} is registered"
    if alias:
        known = ", ".join(f"models:/{name}@{other}" for other in sorted(found.aliases)) or "none"
        return f"{uri}: {name} has no alias {alias}; valid: {known}"
    if NUMBER.fullmatch(stage):
        return registry.no_version(found, int(stage))
    return f"{uri}: no version of {name} is in stage {stage}"


def load_version(version: Version, folder: Path, device: torch.device) -> Generator:
    return load_generator(_download(version, WEIGHTS, folder), device)


def download_networks(uri: str, folder: Path) -> Path:
    """Download the generator and the discriminator of `models:/NAME/3` into `folder`.

    Returns:
        The folder below `folder` that has both files.
    Raises:
        FaceganError: if there is no such version, or a hash does not match the version's tag.
    """
    client = connection.connect(create=False)
    with connection.translate_errors():
        version = resolve(client, uri)
        (parent,) = {_download(version, name, folder).parent for name in NETWORKS}
    return parent


def download_papers(uri: str, folder: Path, names: Iterable[str]) -> list[Path]:
    """Download those of a version's attached files that it has.

    Raises:
        FaceganError: if there is no such version.
    """
    client = connection.connect(create=False)
    with connection.translate_errors():
        address = f"{resolve(client, uri).uri}/{files.EXTRA}"
        found = {Path(f.path).name for f in mlflow.artifacts.list_artifacts(artifact_uri=address)}
        return [
            Path(mlflow.artifacts.download_artifacts(f"{address}/{name}", dst_path=str(folder)))
            for name in names
            if name in found
        ]


def _download(version: Version, name: str, folder: Path) -> Path:
    uri = f"{version.uri}/{files.EXTRA}/{name}"
    try:
        path = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))
    except (MlflowException, OSError):
        files.require_present(version)
        raise
    check(path, version.tags, uri, NETWORKS[name])
    return path


def check(path: Path, tags: Mapping[str, str], uri: str, tag: str) -> None:
    """
    Raises:
        FaceganError: if the hash of a downloaded file is not that of the version's tag.
    """
    if (actual := file_sha256(path)) != (expected := tags.get(tag)):
        advice = "facegan register restores deleted tags"
        if expected is not None:
            repair = "facegan models repair N FOLDER uploads the file again"
            advice = f"{repair}; if the tag is wrong, delete it, because {advice}"
        text = f"sha256 is {actual}; the version's tag {tag} is {expected}; {advice}"
        raise FaceganError(f"{uri}: {text}")
