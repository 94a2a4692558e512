"""Two versions side by side: what differs, and their images of the same latents."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from mlflow import MlflowClient

from facegan.core.pictures import grid, save_picture
from facegan.models.sampling import generate, latents
from facegan.register import registry, versions
from facegan.register.lineage import commit_of, run_of
from facegan.register.registry import Version

COUNT, SEED = 16, 12
GAP = 8  # black columns between the two grids
SYSTEM = "system/"  # metrics of the machine during the training


def differences(
    client: MlflowClient, name: str, first: int, second: int
) -> list[tuple[str, str, str]]:
    """Rows (what, first, second) of everything on record that differs.

    Raises:
        FaceganError: if there is no such version.
    """
    facts = [_facts(client, registry.require(client, name, n)[1]) for n in (first, second)]
    keys = list(dict.fromkeys([*facts[0], *facts[1]]))
    rows = [(key, *(fact.get(key, "") for fact in facts)) for key in keys]
    return [(key, a, b) for key, a, b in rows if a != b]


def _facts(client: MlflowClient, version: Version) -> dict[str, str]:
    run = run_of(client, version)
    facts = {"commit": commit_of(version, run), "stage": version.stage}
    skipped = (registry.STAGE, registry.GATE, registry.SCORES)
    facts |= {
        key.removeprefix("facegan."): value
        for key, value in version.tags.items()
        if not key.startswith(skipped)
    }
    if run is not None:
        facts |= run.data.params
        metrics = run.data.metrics.items()
        facts |= {key: f"{value:g}" for key, value in metrics if not key.startswith(SYSTEM)}
    return facts


def picture(
    client: MlflowClient, name: str, numbers: tuple[int, int], out: Path, device: torch.device
) -> None:
    """Write one PNG: left the images of the first version, right those of the second.

    Generators with latents of the same dimension get the same latents.

    Raises:
        FaceganError: if a version cannot be loaded.
    """
    grids = []
    for number in numbers:
        version = registry.require(client, name, number)[1]
        with TemporaryDirectory() as folder:
            generator = versions.load_version(version, Path(folder), device)
        z = latents(COUNT, generator.latent_dim, SEED)
        grids.append(torch.from_numpy(grid(torch.cat(list(generate(generator, z))))))
    height = max(len(pixels) for pixels in grids)
    channels = max(pixels.shape[2] for pixels in grids)
    columns = [torch.zeros(height, GAP, channels, dtype=torch.uint8)]
    for position, pixels in zip((0, 2), grids, strict=True):
        padded = torch.zeros(height, pixels.shape[1], channels, dtype=torch.uint8)
        padded[: len(pixels)] = pixels  # grey spreads over RGB
        columns.insert(position, padded)
    save_picture(torch.cat(columns, 1).numpy(), out)
