"""MLflow's model registry: register, promote, load."""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import torch
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.models.architectures import Generator
from facegan.models.files import load_generator
from facegan.tracking import connection

CHAMPION, CHALLENGER = "champion", "challenger"
STAGES = {CHAMPION: "Production", CHALLENGER: "Staging"}
# Tags of a version.
GENERATOR = "facegan.generator"  # sha256 of its safetensors: its identity
DISCRIMINATOR = "facegan.discriminator"  # the same of the one that it was trained against
FID, PROTOCOL = "facegan.fid", "facegan.protocol"
GATE = "facegan.gate"  # what the gate decided, and why; it runs once for a version
# What a version keeps besides the exported model, and the tag with its sha256.
NETWORKS = {"generator.safetensors": GENERATOR, "discriminator.safetensors": DISCRIMINATOR}
WEIGHTS = "generator.safetensors"


@dataclass(frozen=True)
class Registered:
    """A version's place in the registry, and the gate's reason for it."""

    name: str
    version: str
    stage: str
    aliases: tuple[str, ...]
    reason: str


def find_version(client: MlflowClient, name: str, sha256: str) -> ModelVersion | None:
    found = client.search_model_versions(f"name = '{name}' AND tags.`{GENERATOR}` = '{sha256}'")
    return min(found, key=lambda version: int(version.version), default=None)


def assign_role(client: MlflowClient, version: ModelVersion, role: str) -> None:
    """Give a version the alias and the stage of its role, and take the other alias from it."""
    name, number = version.name, version.version
    client.set_registered_model_alias(name, role, number)
    if role == CHAMPION and client.get_registered_model(name).aliases.get(CHALLENGER) == number:
        client.delete_registered_model_alias(name, CHALLENGER)
    with warnings.catch_warnings():
        # Stages are deprecated in favour of aliases; both are kept while MLflow has them.
        warnings.simplefilter("ignore", FutureWarning)
        client.transition_model_version_stage(
            name, number, STAGES[role], archive_existing_versions=True
        )


def describe(client: MlflowClient, name: str, number: str) -> Registered:
    version = client.get_model_version(name, number)
    aliases = client.get_registered_model(name).aliases
    own = tuple(sorted(alias for alias, of in aliases.items() if str(of) == str(number)))
    reason = version.tags.get(GATE, "an experiment's: the gate waits for dvc repro")
    return Registered(name, str(number), str(version.current_stage), own, reason)


def find_registered(name: str, sha256: str) -> Registered | None:
    """Where the generator with this sha256 stands in the registry; None if it isn't there.

    Raises:
        FaceganError: if MLflow cannot be reached.
    """
    client = connection.connect()
    with connection.reachable():
        version = find_version(client, name, sha256)
        return None if version is None else describe(client, name, version.version)


def load(uri: str, device: torch.device) -> Generator:
    """The generator of `models:/NAME/3`, `models:/NAME/Production` or `models:/NAME@champion`.

    What is loaded is the version's safetensors, after its hash was checked. Nothing is unpickled.

    Raises:
        FaceganError: if there is no such version, or its file is not the one registered.
    """
    client = connection.connect()
    with connection.reachable(), TemporaryDirectory() as folder:
        return load_version(_resolve(client, uri), Path(folder), device)


def _resolve(client: MlflowClient, uri: str) -> ModelVersion:
    match = re.fullmatch(r"models:/(?P<name>[^/@]+)(/(?P<place>\w+)|@(?P<alias>\w+))", uri)
    if match is None:
        valid = "models:/NAME/VERSION, models:/NAME/STAGE, models:/NAME@ALIAS"
        raise FaceganError(f"{uri}: no model; valid: {valid}")
    name, place, alias = match["name"], match["place"], match["alias"]
    if alias:
        return client.get_model_version_by_alias(name, alias)
    if place.isdigit():
        return client.get_model_version(name, place)
    versions = client.search_model_versions(f"name = '{name}'")
    staged = [v for v in versions if str(v.current_stage).lower() == place.lower()]
    if not staged:
        raise FaceganError(f"{uri}: no version of {name} is in stage {place}")
    return max(staged, key=lambda version: int(version.version))


def load_version(version: ModelVersion, folder: Path, device: torch.device) -> Generator:
    return load_generator(_download(version, WEIGHTS, folder), device)


def download_networks(uri: str, folder: Path) -> Path:
    """Bring the generator and the discriminator of `models:/NAME/3` to a place below `folder`.

    Returns:
        The folder that they are in.
    Raises:
        FaceganError: if there is no such version, or its files are not those registered.
    """
    client = connection.connect()
    with connection.reachable():
        version = _resolve(client, uri)
        places = {_download(version, name, folder).parent for name in NETWORKS}
    (place,) = places
    return place


def _download(version: ModelVersion, name: str, folder: Path) -> Path:
    uri = f"models:/{version.name}/{version.version}/extra_files/{name}"
    path = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))
    recorded = version.tags.get(NETWORKS[name])
    if file_sha256(path) != recorded:
        raise FaceganError(f"{uri}: its sha256 is not {recorded}, which the version's tag records")
    return path
