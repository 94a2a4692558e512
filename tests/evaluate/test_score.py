"""Scores of images that were given."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from conftest import make_params
from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.core.pictures import save_picture
from facegan.data.dataset import load_images
from facegan.evaluate.image_set import ImageSet, read_images
from facegan.evaluate.protocol import SEEDS
from facegan.evaluate.score import Reference, score
from facegan.evaluate.stage import evaluate
from facegan.models.files import load_generator
from facegan.models.sampling import generate, latents
from samples import contents

FID = "fid40_efficientnet-lite0-32"
# Keys of metrics.json that say what was scored or averaged.
ABOUT = {"fids", "protocol", "reference", FID}


def scored(images: ImageSet, official: Path, device: torch.device) -> dict[str, Any]:
    found = score(images, Reference.load(official), device)
    assert found is not None
    return found


def test_images_of_the_first_latents_have_the_scores_of_evaluate(
    trained: Path, dataset: Path, official: Path, device: torch.device, tmp_path: Path
) -> None:
    params, out = make_params(), tmp_path / "metrics.json"
    extractor = params.reference.official
    evaluate(trained, dataset, official, tmp_path / "out", out, params.evaluate, extractor, device)
    generator = load_generator(trained / "generator.safetensors", device)
    (tmp_path / "png").mkdir()
    images = torch.cat(list(generate(generator, latents(40, generator.latent_dim, SEEDS[0]))))
    for number, image in enumerate(images):
        save_picture(image.numpy(), tmp_path / "png" / f"{number:05d}.png")
    found = scored(read_images(str(tmp_path / "png"), [32, 32, 1]), official, device)
    expected = json.loads(out.read_text())
    assert found[FID] == found["fids"][0] == expected["fids"][0]
    assert found["reference"] == expected["reference"] == file_sha256(official)
    assert found["protocol"]["name"] == expected["protocol"]["name"]
    same = found.keys() & expected.keys() - ABOUT
    assert {f"{FID}_heldout", f"{FID}_gap", "kid40_efficientnet-lite0-32", "floor"} < same
    assert {"precision40_efficientnet-lite0-32", "memorised40_efficientnet-lite0-32"} < same
    assert {key: found[key] for key in same} == {key: expected[key] for key in same}
    of_training = {f"{FID}_spread", "untrained", "untrained_fids", "images_seen", "collapses"}
    assert expected.keys() - found.keys() == of_training | {"generator"}
    assert found.keys() - expected.keys() == {"images"}


def image_set(pixels: Tensor, *warnings: str) -> ImageSet:
    return ImageSet(pixels, "0123", list(warnings))


def test_scores_say_which_images_and_carry_their_warnings(
    dataset: Path, official: Path, device: torch.device
) -> None:
    found = scored(image_set(load_images(dataset)[:20], "all JPEG"), official, device)
    assert found["images"] == "0123"
    rank, said = found["warnings"]
    assert rank.startswith("20 generated images for 24 features") and said == "all JPEG"
    assert found["protocol"]["seeds"] == [] and found["protocol"]["num_samples"] == 20


def test_a_random_part_stands_for_more_images_than_the_reference_stores(
    dataset: Path, references: tuple[Path, Path], device: torch.device
) -> None:
    stored = Reference.load(references[1]).statistics.train_indices  # 20
    copies, white = load_images(dataset)[stored], torch.full((60, 32, 32, 1), 255).byte()
    found = scored(image_set(torch.cat([copies, white])), references[1], device)
    assert 0 < found["memorised20_efficientnet-lite0-32"] < 0.6  # not 1, as of the first 20
    assert "fid80_efficientnet-lite0-32" in found


def test_the_order_of_images_does_not_change_the_fid(
    dataset: Path, references: tuple[Path, Path], device: torch.device
) -> None:
    images = load_images(dataset)[:50]
    fids = [
        scored(image_set(part), references[1], device)["fid50_efficientnet-lite0-32"]
        for part in (images, images.flip(0))
    ]
    assert fids[0] == pytest.approx(fids[1], abs=1e-3)


def test_statistics_for_the_quick_fid_are_refused(references: tuple[Path, Path]) -> None:
    with pytest.raises(FaceganError, match="no features of single images; expected the official"):
        Reference.load(references[0])


def test_nothing_is_written(
    dataset: Path, official: Path, device: torch.device, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    scored(image_set(load_images(dataset)[:20]), official, device)
    assert contents(tmp_path) == {}
