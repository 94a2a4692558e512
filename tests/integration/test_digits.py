"""The result of `make run` on the embedded sample. CI runs it before the tests."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.svm import SVC

from facegan.evaluate.heldout import heldout_metrics
from facegan.features.frechet import Statistics
from facegan.models.files import load_generator
from facegan.models.sampling import generate, latents
from facegan.params import load_params
from samples import digits

ARTIFACTS = Path(__file__).parents[2] / "artifacts"
GENERATOR = ARTIFACTS / "train" / "generator.safetensors"

pytestmark = [
    pytest.mark.skipif(not GENERATOR.exists(), reason="no trained generator: run `make run` first"),
    pytest.mark.skipif(
        load_params(ARTIFACTS.parent / "params.yaml").register_.name != "facegan-digits",
        reason="params.yaml is not the digits preset's",
    ),
]


def test_fid_is_at_most_a_fifth_of_the_untrained_generators() -> None:
    scores = json.loads((ARTIFACTS / "metrics.json").read_text())
    assert scores["floor"] < scores[scores["protocol"]["name"]] < scores["untrained"] / 5


def test_training_digits_in_place_of_generated_ones_are_warned_about() -> None:
    statistics = Statistics.load(ARTIFACTS / "reference" / "official.safetensors")
    # At random, because the first ones fill some of the compared groups alone.
    chosen = torch.randperm(len(statistics.subset), generator=torch.Generator().manual_seed(0))
    found = heldout_metrics(statistics, statistics.subset[chosen[:2000]])
    print("training digits as samples:", found.scores)  # in docs/scores.md
    assert len(found.warnings) == 1
    scores = json.loads((ARTIFACTS / "metrics.json").read_text())
    assert not any("overfits" in warning for warning in scores["warnings"])


def test_a_classifier_finds_all_ten_digits(device: torch.device) -> None:
    pixels, classes = digits()
    classifier = SVC(C=10).fit(_packed(pixels), classes)
    z = latents(1000, 100, seed=77)
    images = torch.cat(list(generate(load_generator(GENERATOR, device), z))).numpy()
    found = np.bincount(classifier.predict(images.reshape(1000, -1) / 255), minlength=10)
    print("digits 0 to 9 in 1,000 samples:", found)
    assert found.min() >= 30


def _packed(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The digits as the generator saw them: uint8 levels (n, 28, 28) -> (n, 1024) in [0, 1]."""
    images = (Image.fromarray(row) for row in pixels)
    resized = (image.resize((32, 32), Image.Resampling.LANCZOS) for image in images)
    return np.stack([np.asarray(image).ravel() / 255 for image in resized])
