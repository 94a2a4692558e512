"""A run folder -> the folder that `train` hands on."""

import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from facegan.core import history, pictures
from facegan.core.atomic import replacing
from facegan.models import files
from facegan.train.run_folder import SAMPLES, UNTRAINED


def export(
    run_folder: Path, networks: dict[str, tuple[dict[str, Tensor], dict[str, Any]]], out: Path
) -> None:
    """Write the folder `out`: networks, history, samples, tables for plots and the animation.

    Args:
        run_folder: with the history, the samples and the untrained generator.
        networks: by file name without suffix: `state_dict` and constructor arguments.
    """
    lines = history.read_history(run_folder / history.NAME)
    samples = [line["picture"] for line in lines if line["event"] == "samples"]
    with replacing(out) as folder:
        folder.mkdir()
        for name, (state, config) in networks.items():
            files.save_network(state, config, folder / f"{name}.safetensors")
        (folder / SAMPLES).mkdir()
        for name in (history.NAME, UNTRAINED, *samples):
            shutil.copyfile(run_folder / name, folder / name)
        history.write_table(lines, "losses", folder / "losses.csv")
        history.write_table(lines, "score", folder / "quick_fid.csv")
        pictures.save_animation([folder / name for name in samples], folder / "evolution.gif")
