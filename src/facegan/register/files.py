"""The files of a version, without loading them."""

from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
from mlflow.exceptions import MlflowException

from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.register.registry import DISCRIMINATOR, GENERATOR, Version
from facegan.register.scores import WEIGHTS

EXTRA = "extra_files"  # MLflow's folder for the files beside the exported model
# Networks beside the exported model, and the tags with their sha256.
NETWORKS = {WEIGHTS: GENERATOR, "discriminator.safetensors": DISCRIMINATOR}
EXPORTED = "MLmodel"
PROGRAM = "data/model.pt2"  # of the exported model
# Of the exported model, at once: MLflow's server takes half a minute for as many in 64x64 RGB.
MAX_LATENTS = 512


def damage(version: Version) -> str:
    """What is wrong with a version's files in the artifact store; empty if nothing is.

    Networks are downloaded, and compared with the sha256 of the version's tags.
    """
    try:
        found = {
            Path(item.path).name
            for folder in ("", f"/{Path(PROGRAM).parent}", f"/{EXTRA}")
            for item in mlflow.artifacts.list_artifacts(artifact_uri=f"{version.uri}{folder}")
        }
    except (MlflowException, OSError) as error:
        return f"the artifacts cannot be listed ({str(error).splitlines()[0]})"
    missing = [name for name in (EXPORTED, Path(PROGRAM).name, *NETWORKS) if name not in found]
    if missing:
        return f"{', '.join(missing)} missing in the artifact store"
    try:
        changed = [name for name, tag in NETWORKS.items() if not _has(version, name, tag)]
    except (MlflowException, OSError) as error:
        return f"the networks cannot be downloaded ({str(error).splitlines()[0]})"
    return f"{', '.join(changed)} changed in the artifact store" if changed else ""


def _has(version: Version, name: str, tag: str) -> bool:
    """Whether a file has the hash on record, if there is one."""
    with TemporaryDirectory() as folder:
        uri = f"{version.uri}/{EXTRA}/{name}"
        path = Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder))
        return version.tags.get(tag) in (None, file_sha256(path))


def require_intact(version: Version) -> None:
    """
    Raises:
        FaceganError: if a file of the version is missing or changed.
    """
    if reason := damage(version):
        raise FaceganError(f"{version.name} version {version.number}: {reason}; {advice(version)}")


def advice(version: Version) -> str:
    sha256 = version.tags.get(GENERATOR, "unknown")
    return (
        f"facegan models repair {version.number} FOLDER uploads them again from a training's "
        f"folder whose generator has sha256 {sha256[:12]}"
    )
