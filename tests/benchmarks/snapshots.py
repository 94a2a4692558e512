"""Keeps the generator of each quick FID of trainings that run beside it, for `benchmarks.ranking`.

    PYTHONPATH=tests python -m benchmarks.snapshots checkpoints /tmp/snapshots

Trainings keep their best generator alone. Ends on Ctrl-C.
"""

import sys
import time
from contextlib import suppress
from pathlib import Path

import torch

from facegan.core.errors import FaceganError
from facegan.models import architectures, files
from facegan.train import gan_state
from facegan.train.checkpoint import load_checkpoint
from facegan.train.ema import EMA
from facegan.train.rng import Rng
from facegan.train.run_folder import CHECKPOINT

INTERVAL = 2.0  # seconds


def main(checkpoints: str, out: str) -> None:
    changed: dict[Path, float] = {}
    while True:
        for path in Path(checkpoints).glob(f"*/{CHECKPOINT}"):
            written = path.stat().st_mtime
            if changed.get(path) != written:
                changed[path] = written
                _keep_intact(path, Path(out) / path.parent.name)
        time.sleep(INTERVAL)


def _keep_intact(path: Path, folder: Path) -> None:
    try:
        keep(path, folder)
    except FaceganError as error:  # replaced while it was read
        print(f"snapshots: {error}", flush=True)


def keep(checkpoint: Path, folder: Path) -> None:
    """Write the EMA generator of a checkpoint that has been scored to `folder`, named after the
    images seen, as it was scored.

    Raises:
        FaceganError: if the checkpoint is missing or damaged.
    """
    cpu = torch.device("cpu")
    state = load_checkpoint(checkpoint, cpu)
    path = folder / f"{state['images_seen']}.safetensors"
    if state["score_due"] or path.exists():
        return
    config = state["configs"]["generator"]
    network = architectures.build_generator(**config).to(memory_format=torch.channels_last)
    network.load_state_dict(state["trainer"]["ema"])
    batch = gan_state.CALIBRATION_BATCH
    rng = Rng(gan_state.CALIBRATION_SEED, cpu)
    z = rng.normal(gan_state.CALIBRATION_BATCHES * batch, config["latent_dim"])
    calibrated = EMA(network, 1).recalibrate_batchnorm(z.split(batch))
    folder.mkdir(parents=True, exist_ok=True)
    files.save_network(calibrated.state_dict(), config, path)
    print(f"snapshots: {path}", flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
