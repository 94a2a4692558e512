"""The files of a version, without loading them."""

from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
from mlflow.exceptions import MlflowException

from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.register.registry import DISCRIMINATOR, GENERATOR, Version
from facegan.register.scores import WEIGHTS
from facegan.tracking.errors import is_transient

EXTRA = "extra_files"  # MLflow's folder for the files beside the exported model
# Networks beside the exported model, and the tags with their sha256.
NETWORKS = {WEIGHTS: GENERATOR, "discriminator.safetensors": DISCRIMINATOR}
EXPORTED = "MLmodel"
PROGRAM = "data/model.pt2"  # of the exported model
# Of the exported model, at once: MLflow's server takes half a minute for as many in 64x64 RGB.
MAX_LATENTS = 512


def missing(version: Version) -> str:
    """Which of a version's files the artifact store lacks, as a reason; empty if none."""
    try:
        return _missing(_location(version))
    except (MlflowException, OSError) as error:
        return _reason("the artifacts cannot be listed", error)


def _missing(location: str) -> str:
    found = {
        Path(item.path).name
        for folder in ("", f"/{Path(PROGRAM).parent}", f"/{EXTRA}")
        for item in mlflow.artifacts.list_artifacts(artifact_uri=f"{location}{folder}")
    }
    names = [name for name in (EXPORTED, Path(PROGRAM).name, *NETWORKS) if name not in found]
    return f"{', '.join(names)} missing in the artifact store" if names else ""


def _location(version: Version) -> str:
    """Where a version's files are. `models:/NAME/3` costs three requests for each file."""
    client = mlflow.MlflowClient()
    return str(client.get_model_version_download_uri(version.name, str(version.number)))


def damage(version: Version) -> str:
    """What is wrong with a version's files in the artifact store; empty if nothing is.

    Networks are downloaded, and compared with the sha256 of the version's tags.
    """
    try:
        location = _location(version)
        if reason := _missing(location):
            return reason
    except (MlflowException, OSError) as error:
        return _reason("the artifacts cannot be listed", error)
    try:
        changed = [
            name
            for name, tag in NETWORKS.items()
            if not _has(location, name, version.tags.get(tag))
        ]
    except (MlflowException, OSError) as error:
        return _reason("the networks cannot be downloaded", error)
    return f"{', '.join(changed)} changed in the artifact store" if changed else ""


def _has(location: str, name: str, sha256: str | None) -> bool:
    """Whether a file has the hash on record, if there is one."""
    with TemporaryDirectory() as folder:
        uri = f"{location}/{EXTRA}/{name}"
        path = Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder))
        return sha256 in (None, file_sha256(path))


def _reason(text: str, error: Exception) -> str:
    """
    Raises:
        Exception: the error, if it is not of the files: a full disk here, a store that is away.
    """
    if is_transient(error) or "No space left" in str(error):
        raise error
    return f"{text} ({str(error).splitlines()[0]})"


def require_intact(version: Version) -> None:
    """
    Raises:
        FaceganError: if a file of the version is missing or changed.
    """
    _refuse(version, damage(version))


def require_present(version: Version) -> None:
    """As `require_intact`, for a caller that compares the hashes itself.

    Raises:
        FaceganError: if a file of the version is missing.
    """
    _refuse(version, missing(version))


def _refuse(version: Version, reason: str) -> None:
    if reason:
        raise FaceganError(f"{version.name} version {version.number}: {reason}; {advice(version)}")


def advice(version: Version) -> str:
    sha256 = version.tags.get(GENERATOR, "unknown")
    return (
        f"facegan models repair {version.number} FOLDER uploads them again from a training's "
        f"folder whose generator has sha256 {sha256[:12]}"
    )
