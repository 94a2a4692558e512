import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import make_params
from facegan.core.errors import FaceganError
from facegan.core.events import Message, Progress
from facegan.data.dataset import load_images
from facegan.features.extraction import Extraction
from facegan.features.extractors import load_extractor
from facegan.features.frechet import FeatureMoments, FrechetDistance, Statistics
from facegan.models.files import save_network
from facegan.params import Reference
from facegan.preprocess.stage import preprocess
from facegan.reference.stage import reference
from samples import digests
from small_extractor import SmallExtractor

CPU = torch.device("cpu")
COUNT = 60
PARAMS = make_params().reference


def pack(folder: Path, count: int, holdout: float) -> Path:
    """A preprocessed dataset of `count` small RGB images."""
    data = folder / "data"
    data.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        blocks = rng.integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(blocks).resize((32, 32)).save(data / f"{number:02}.png")
    settings = make_params(preprocess={"channels": 3, "holdout": holdout}).preprocess
    preprocess(data, folder / "dataset", settings, workers=1)
    return folder / "dataset"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 images, some of them held out."""
    return pack(tmp_path_factory.mktemp("images"), COUNT, holdout=0.3)


@pytest.fixture(scope="module")
def measured(
    images: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("measured")
    quick, official = folder / "quick.safetensors", folder / "official.safetensors"
    events: list[Any] = []
    reference(images, quick, official, PARAMS, CPU, events.append)
    return quick, official, events


Measured = tuple[Path, Path, list[dict[str, Any]]]


def all_features(images: Path) -> torch.Tensor:
    """Training images first, then held-out ones."""
    both = torch.cat([load_images(images, part) for part in ("images", "holdout")])
    features: torch.Tensor = load_extractor(PARAMS.quick, CPU)(both)
    return features


def moments(features: torch.Tensor) -> FeatureMoments:
    result = FeatureMoments(features.shape[1])
    result.update(features)
    return result


def test_statistics_include_held_out_images(images: Path, measured: Measured) -> None:
    held_out = len(load_images(images, "holdout"))
    assert 0 < held_out < COUNT
    statistics = Statistics.load(measured[0])
    assert statistics.metadata["count"] == COUNT
    expected = moments(all_features(images))
    torch.testing.assert_close(statistics.mean, expected.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(statistics.covariance, expected.covariance, rtol=1e-3, atol=1e-4)


def test_metadata_records_dataset_and_protocol(images: Path, measured: Measured) -> None:
    records = [json.loads((images / f"{part}.json").read_text()) for part in ("dataset", "holdout")]
    for path, settings in zip(measured[:2], (PARAMS.quick, PARAMS.official), strict=True):
        metadata = Statistics.load(path).metadata
        floor = metadata.pop("floor")
        assert floor > 0
        assert metadata == {
            "count": COUNT,
            "shape": [32, 32, 3],
            "preprocessing": records[0]["preprocessing"],
            "data": records[0]["sha256"],
            "holdout": records[1]["sha256"],
            "extractor": settings.model_dump(),
        }


def test_the_floor_is_the_distance_between_random_halves(images: Path, measured: Measured) -> None:
    floor = Statistics.load(measured[0]).metadata["floor"]
    # Projected onto the span of the 60 images: the same distances, computed faster.
    features, rng = all_features(images).double(), torch.Generator().manual_seed(99)
    features = features @ torch.linalg.svd(features, full_matrices=False).Vh.T
    floors = []
    for _ in range(5):
        order = torch.randperm(COUNT, generator=rng)
        first, second = features[order].split(COUNT // 2)
        distance = FrechetDistance(Statistics.from_moments(moments(first)))
        distance.update(second)
        floors.append(float(distance.compute()))
    assert 0.5 * min(floors) < floor < 2 * max(floors)


def test_the_subset_holds_the_features_of_train_indices(images: Path, measured: Measured) -> None:
    statistics = Statistics.load(measured[1])
    assert (statistics.subset.shape, statistics.subset.dtype) == (
        (PARAMS.subset, SmallExtractor.num_features),
        torch.float32,
    )
    assert len(set(statistics.train_indices.tolist())) == PARAMS.subset
    chosen = load_images(images)[statistics.train_indices]
    torch.testing.assert_close(
        statistics.subset, load_extractor(PARAMS.official, CPU)(chosen), rtol=1e-4, atol=1e-4
    )


def test_the_subset_is_in_random_order(measured: Measured) -> None:
    # KID, precision and recall take a prefix, and photographs may be sorted.
    indices = Statistics.load(measured[1]).train_indices.tolist()
    assert indices != sorted(indices)


def test_features_of_all_held_out_images_are_kept_up_to_the_limit(
    images: Path, measured: Measured
) -> None:
    held_out = load_images(images, "holdout")
    kept = Statistics.load(measured[1]).holdout
    assert len(kept) == min(PARAMS.subset, len(held_out))
    distances, nearest = torch.cdist(kept, load_extractor(PARAMS.official, CPU)(held_out)).min(1)
    assert distances.max() < 1e-2
    assert len(set(nearest.tolist())) == len(kept)


def test_the_quick_statistics_have_no_per_image_features(measured: Measured) -> None:
    statistics = Statistics.load(measured[0])
    assert len(statistics.subset) == len(statistics.train_indices) == len(statistics.holdout) == 0


def test_fewer_images_than_features_cause_a_warning(tmp_path: Path) -> None:
    events: list[Any] = []
    dataset = pack(tmp_path, 20, holdout=0)
    reference(dataset, tmp_path / "quick", tmp_path / "official", PARAMS, CPU, events.append)
    texts = [event.text for event in events if isinstance(event, Message)]
    assert texts and all("20 photographs for 24 features" in text for text in texts)


def test_the_same_inputs_give_the_same_bytes_and_other_settings_do_not(
    images: Path, measured: Measured, tmp_path: Path
) -> None:
    settings = PARAMS.model_dump()
    settings["official"]["input_size"] = 48
    torch.manual_seed(5)
    quick, official = tmp_path / "quick", tmp_path / "official"
    reference(images, quick, official, Reference.model_validate(settings), CPU)
    assert quick.read_bytes() == measured[0].read_bytes()
    before, after = Statistics.load(measured[1]), Statistics.load(official)
    assert after.metadata["extractor"]["input_size"] == 48
    for name in ("mean", "covariance", "subset"):
        assert not torch.equal(getattr(before, name), getattr(after, name))


def test_progress_counts_all_images_twice(measured: Measured) -> None:
    events = [event for event in measured[2] if isinstance(event, Progress)]
    assert {event.total for event in events} == {2 * COUNT}
    done = [event.done for event in events]
    assert done == sorted(done)
    assert done[-1] == 2 * COUNT


@pytest.mark.parametrize("count", [2, 3])
def test_too_few_images_for_scores_are_rejected(count: int, tmp_path: Path) -> None:
    data = pack(tmp_path, count, holdout=0.0)
    with pytest.raises(FaceganError, match=f"^{data}: {count} images; scores need at least 8"):
        reference(data, tmp_path / "quick", tmp_path / "official", PARAMS, CPU)
    assert not (tmp_path / "quick").exists()


def test_a_damaged_dataset_is_rejected_and_nothing_is_written(images: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(images, tmp_path / "copy")
    (copy / "holdout.npy").write_bytes(b"")
    with pytest.raises(FaceganError, match=f"^{copy}/holdout.npy: not usable"):
        reference(copy, tmp_path / "quick", tmp_path / "official", PARAMS, CPU)
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def nothing_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("features were computed")

    monkeypatch.setattr(Extraction, "__call__", fail)


def test_a_batch_that_training_cannot_have_is_refused_first(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_computed(monkeypatch)
    count = len(load_images(images))
    with pytest.raises(FaceganError, match=rf"train\.batch_size: {count + 1}: larger than the"):
        reference(images, tmp_path / "q", tmp_path / "o", PARAMS, CPU, batch_size=count + 1)


@pytest.mark.parametrize(
    ("quick", "official", "message"),
    [
        ("folder", "o", "folder: is a folder, expected a file"),
        ("q", "folder", "folder: is a folder, expected a file"),
        ("q", "thesis.tex/o", "thesis.tex: cannot be written to"),
        ("q", "thesis.tex", "thesis.tex: was not written by this stage"),
        ("network.safetensors", "o", "network.safetensors: was not written by this stage"),
        ("q", "q", "q: overlaps the output file"),
    ],
)
def test_unusable_outputs_are_refused_first(
    quick: str,
    official: str,
    message: str,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nothing_computed(monkeypatch)
    (tmp_path / "folder").mkdir()
    (tmp_path / "thesis.tex").write_text("text")
    save_network({"weight": torch.zeros(1)}, {"size": 32}, tmp_path / "network.safetensors")
    before = digests(tmp_path)
    with pytest.raises(FaceganError, match=re.escape(message)):
        reference(images, tmp_path / quick, tmp_path / official, PARAMS, CPU)
    assert digests(tmp_path) == before


def test_missing_weights_of_the_official_extractor_are_noticed_first(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_computed(monkeypatch)
    monkeypatch.setenv("FACEGAN_INCEPTION", str(tmp_path / "missing.pth"))
    settings = PARAMS.model_dump()
    settings["official"] |= {"extractor": "inception", "input_size": 299}
    with pytest.raises(FaceganError, match=r"missing\.pth"):
        reference(images, tmp_path / "q", tmp_path / "o", Reference.model_validate(settings), CPU)


@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_statistics_are_never_written_through_a_link(
    link: str, images: Path, measured: Measured, tmp_path: Path
) -> None:
    cache, outputs = tmp_path / "cache", [tmp_path / "quick", tmp_path / "official"]
    cache.mkdir()
    for path, source in zip(outputs, measured[:2], strict=True):
        shutil.copy(source, cache / path.name)
        (cache / path.name).chmod(0o444)
        target = cache / path.name
        path.symlink_to(target) if link == "symbolic" else path.hardlink_to(target)
    before = digests(cache)
    settings = PARAMS.model_dump()
    settings["quick"]["input_size"] = settings["official"]["input_size"] = 48
    quick, official = outputs
    reference(images, quick, official, Reference.model_validate(settings), CPU)
    assert digests(cache) == before
    assert not any(path.is_symlink() or path.stat().st_nlink > 1 for path in outputs)
