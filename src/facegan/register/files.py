"""The files of a version, without loading them."""

from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException

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


def damage(version: Version, trained: Path | None = None) -> str:
    """What is wrong with a version's files in the artifact store; empty if nothing is.

    Files are listed, not downloaded.

    Args:
        trained: folder with the same networks, whose sizes are compared.
    """
    try:
        found = {
            Path(item.path).name: item.file_size
            for folder in ("", f"/{Path(PROGRAM).parent}", f"/{EXTRA}")
            for item in mlflow.artifacts.list_artifacts(artifact_uri=f"{version.uri}{folder}")
        }
    except (MlflowException, OSError) as error:
        return f"the artifacts cannot be listed ({str(error).splitlines()[0]})"
    missing = [name for name in (EXPORTED, Path(PROGRAM).name, *NETWORKS) if name not in found]
    if missing:
        return f"{', '.join(missing)} missing in the artifact store"
    if trained is not None:
        sizes = {name: (trained / name).stat().st_size for name in NETWORKS}
        changed = [name for name, size in sizes.items() if found[name] not in (None, size)]
        if changed:
            return f"{', '.join(changed)} changed in the artifact store"
    return ""


def require_intact(version: Version, trained: Path | None = None) -> None:
    """
    Raises:
        FaceganError: if a file of the version is missing or has another size.
    """
    if reason := damage(version, trained):
        raise FaceganError(f"{version.name} version {version.number}: {reason}; {advice(version)}")


def advice(version: Version) -> str:
    sha256 = version.tags.get(GENERATOR, "unknown")
    return (
        f"facegan models repair {version.number} FOLDER uploads them again from a training's "
        f"folder whose generator has sha256 {sha256[:12]}"
    )
