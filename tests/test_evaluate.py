"""The official score and the file that carries it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from facegan.checkpoint import file_sha256, save_network
from facegan.errors import FaceganError
from facegan.evaluate import OFFICIAL_SEED, describe_protocol, evaluate, score
from facegan.features import load_extractor
from facegan.frechet import Moments, Statistics, frechet_distance
from facegan.judge import QUICK_SEED
from facegan.models.architectures import build_generator
from facegan.models.dcgan import initialise
from facegan.params import Evaluate, Extractor
from facegan.sampling import draw, latents


@pytest.fixture(name="trained")
def make_trained(tmp_path: Path) -> Path:
    """A folder such as train writes, its generator drawn at random."""
    folder = tmp_path / "train"
    folder.mkdir()
    config: dict[str, Any] = {
        "architecture": "dcgan",
        "size": 32,
        "channels": 1,
        "latent_dim": 10,
        "width": 4,
    }
    for seed, name in enumerate(("generator", "initial")):
        network = build_generator(**config)
        initialise(network, torch.Generator().manual_seed(seed))
        for parameter in network.parameters():
            parameter.data *= 20  # else all images are the same grey
        save_network(network.state_dict(), config, folder / f"{name}.safetensors")
    events: list[dict[str, Any]] = [{"event": "start"}]
    for seen, fid in ((0, 9.0), (100, 3.0), (200, 5.0)):
        events.append({"event": "score", "images_seen": seen, "quick_fid": fid})
    (folder / "history.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    return folder


def test_metrics_carry_scores_protocol_and_the_generators_identity(
    trained: Path, references: tuple[Path, Path], device: torch.device, tmp_path: Path
) -> None:
    out, metrics = tmp_path / "evaluation", tmp_path / "metrics.json"
    evaluate(trained, references[1], out, metrics, Evaluate(fakes=40), device)
    content = json.loads(metrics.read_text())
    assert content["protocol"]["name"] == "fid40_efficientnet-lite0-32"
    assert content["fid40_efficientnet-lite0-32"] > content["floor"] > 0
    assert content["images_seen"] == 100
    assert content["generator"] == file_sha256(trained / "generator.safetensors")
    assert content["untrained"] != content["fid40_efficientnet-lite0-32"]
    protocol = content["protocol"]
    assert protocol["fakes"] == 40 and protocol["reals"] == 600 and protocol["shape"] == [32, 32, 1]
    assert "lanczos" in protocol["recipe"] and "libjpeg" in protocol["recipe"]
    assert (out / "samples.png").exists()


def test_score_is_the_frechet_distance_of_the_officially_seeded_fakes(
    trained: Path, references: tuple[Path, Path], device: torch.device
) -> None:
    from facegan.checkpoint import load_generator

    generator = load_generator(trained / "generator.safetensors", device)
    statistics = Statistics.load(references[1])
    extractor = load_extractor(Extractor(**statistics.about["extractor"]), device)
    moments = Moments(extractor.num_features)
    for images in draw(generator, latents(40, 10, OFFICIAL_SEED)):
        moments.update(extractor(images))
    own = frechet_distance(statistics, moments)
    # torchmetrics rounds to float32 and takes the root of an unsymmetric product.
    assert score(generator, statistics, 40, device) == pytest.approx(own, rel=1e-3)
    assert OFFICIAL_SEED != QUICK_SEED


def test_protocols_differ_with_everything_that_can_move_a_score(
    references: tuple[Path, Path],
) -> None:
    statistics = Statistics.load(references[1])
    base = describe_protocol(statistics, 2000)
    assert base["name"] == "fid2k_efficientnet-lite0-32"
    identities = {base["id"], describe_protocol(statistics, 2500)["id"]}
    for key, value in {"data": "x", "count": 1, "shape": [64, 64, 1], "recipe": "other"}.items():
        changed = Statistics(**{**vars(statistics), "about": {**statistics.about, key: value}})
        identities.add(describe_protocol(changed, 2000)["id"])
    assert len(identities) == 6


def test_a_generator_of_another_shape_is_refused_and_nothing_written(
    trained: Path, references: tuple[Path, Path], device: torch.device, tmp_path: Path
) -> None:
    config: dict[str, Any] = {
        "architecture": "dcgan",
        "size": 64,
        "channels": 3,
        "latent_dim": 10,
        "width": 2,
    }
    network = build_generator(**config)
    save_network(network.state_dict(), config, trained / "generator.safetensors")
    metrics = tmp_path / "metrics.json"
    with pytest.raises(FaceganError, match=r"\[64, 64, 3\].*\[32, 32, 1\]"):
        evaluate(trained, references[1], tmp_path / "e", metrics, Evaluate(fakes=4), device)
    assert not metrics.exists() and not (tmp_path / "e").exists()


def test_torchmetrics_keeps_nothing_waiting_but_a_score() -> None:
    program = "import sys, facegan.registry, facegan.train; sys.exit('torchmetrics' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
