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
GENERATOR = "facegan.generator"  # sha256 of its safetensors file, which identifies it
DISCRIMINATOR = "facegan.discriminator"  # sha256 of the discriminator trained with it
FID, PROTOCOL = "facegan.fid", "facegan.protocol"
GATE = "facegan.gate"  # the gate's decision and reason; without it, the gate runs
# Files beside the exported model, and the tags with their sha256.
NETWORKS = {"generator.safetensors": GENERATOR, "discriminator.safetensors": DISCRIMINATOR}
WEIGHTS = "generator.safetensors"


@dataclass(frozen=True)
class Registered:
    """A registered version: its stage, its aliases and the gate's reason for them."""

    name: str
    version: str
    stage: str
    aliases: tuple[str, ...]
    reason: str


def find_version(client: MlflowClient, name: str, sha256: str) -> ModelVersion | None:
    found = client.search_model_versions(f"name = '{name}' AND tags.`{GENERATOR}` = '{sha256}'")
    return min(found, key=lambda version: int(version.version), default=None)


def assign_role(client: MlflowClient, version: ModelVersion, role: str) -> None:
    """Give a version the alias and stage of its role; a champion loses the alias `challenger`."""
    name, number = version.name, version.version
    client.set_registered_model_alias(name, role, number)
    if role == CHAMPION and client.get_registered_model(name).aliases.get(CHALLENGER) == number:
        client.delete_registered_model_alias(name, CHALLENGER)
    with warnings.catch_warnings():
        # MLflow deprecates stages in favour of aliases; both work as long as MLflow has them.
        warnings.simplefilter("ignore", FutureWarning)
        client.transition_model_version_stage(
            name, number, STAGES[role], archive_existing_versions=True
        )


def describe(client: MlflowClient, name: str, number: str) -> Registered:
    version = client.get_model_version(name, number)
    all_aliases = client.get_registered_model(name).aliases
    aliases = tuple(sorted(alias for alias, n in all_aliases.items() if str(n) == str(number)))
    reason = version.tags.get(GATE, "DVC experiment; the gate runs by: dvc repro -sf register")
    return Registered(name, str(number), str(version.current_stage), aliases, reason)


def find_registered(name: str, sha256: str) -> Registered | None:
    """Return the version of the generator with this sha256, or None if it is not registered.

    Raises:
        FaceganError: if MLflow cannot be reached.
    """
    client = connection.connect()
    with connection.translate_errors():
        version = find_version(client, name, sha256)
        return None if version is None else describe(client, name, version.version)


def load(uri: str, device: torch.device) -> Generator:
    """Load the generator of `models:/NAME/3`, `models:/NAME/Production` or `models:/NAME@champion`.

    It is loaded from the version's safetensors file, after its hash is checked. Nothing is
    unpickled.

    Raises:
        FaceganError: if there is no such version, or the hash does not match the version's tag.
    """
    client = connection.connect()
    with connection.translate_errors(), TemporaryDirectory() as folder:
        return load_version(_resolve(client, uri), Path(folder), device)


def _resolve(client: MlflowClient, uri: str) -> ModelVersion:
    pattern = r"models:/(?P<name>[^/@]+)(/(?P<number>\d+)|/(?P<stage>\w+)|@(?P<alias>\w+))"
    match = re.fullmatch(pattern, uri)
    if match is None:
        valid = "models:/NAME/VERSION, models:/NAME/STAGE, models:/NAME@ALIAS"
        raise FaceganError(f"{uri}: not a model URI; valid: {valid}")
    name, number, stage, alias = match.group("name", "number", "stage", "alias")
    if alias:
        return client.get_model_version_by_alias(name, alias)
    if number:
        return client.get_model_version(name, number)
    versions = client.search_model_versions(f"name = '{name}'")
    staged = [v for v in versions if str(v.current_stage).lower() == stage.lower()]
    if not staged:
        raise FaceganError(f"{uri}: no version of {name} is in stage {stage}")
    return max(staged, key=lambda version: int(version.version))


def load_version(version: ModelVersion, folder: Path, device: torch.device) -> Generator:
    return load_generator(_download(version, WEIGHTS, folder), device)


def download_networks(uri: str, folder: Path) -> Path:
    """Download the generator and the discriminator of `models:/NAME/3` into `folder`.

    Returns:
        The folder below `folder` that has both files.
    Raises:
        FaceganError: if there is no such version, or a hash does not match the version's tag.
    """
    client = connection.connect()
    with connection.translate_errors():
        version = _resolve(client, uri)
        (parent,) = {_download(version, name, folder).parent for name in NETWORKS}
    return parent


def _download(version: ModelVersion, name: str, folder: Path) -> Path:
    uri = f"models:/{version.name}/{version.version}/extra_files/{name}"
    path = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))
    expected = version.tags.get(NETWORKS[name])
    if (actual := file_sha256(path)) != expected:
        tag = NETWORKS[name]
        raise FaceganError(f"{uri}: sha256 is {actual}; the version's tag {tag} is {expected}")
    return path
