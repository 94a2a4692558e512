"""The evaluate stage: metrics.json and the pictures."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import make_params
from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.core.events import Message, Progress
from facegan.core.pictures import grid
from facegan.data.dataset import load_images
from facegan.evaluate import scorer as module
from facegan.evaluate import stage
from facegan.evaluate.protocol import SEEDS
from facegan.evaluate.scorer import Scorer
from facegan.evaluate.stage import PAIRS, ROW, evaluate
from facegan.features.extraction import Extraction
from facegan.features.frechet import Statistics
from facegan.models.architectures import build_generator
from facegan.models.files import load_generator, load_network, save_network
from facegan.models.sampling import generate, latents
from facegan.params import Extractor
from facegan.preprocess.stage import preprocess
from facegan.reference.stage import reference
from samples import contents

Evaluate = Callable[..., dict[str, Any]]
FID = "fid40_efficientnet-lite0-32"
PICTURES = ("nearest.png", "quick_fid.png", "samples.png")


@pytest.fixture(name="evaluated")
def make_evaluated(
    trained: Path,
    dataset: Path,
    references: tuple[Path, Path],
    device: torch.device,
    tmp_path: Path,
) -> Evaluate:
    """Evaluates `trained` with 40 samples, unless overridden, and returns metrics.json."""

    def run(**changes: Any) -> dict[str, Any]:
        small = make_params()
        arguments: dict[str, Any] = {
            "trained": trained,
            "dataset": dataset,
            "official": references[1],
            "out": tmp_path / "evaluation",
            "metrics": tmp_path / "metrics.json",
            "params": small.evaluate,
            "requested": small.reference.official,
            "device": device,
        }
        evaluate(**arguments | changes)
        content: dict[str, Any] = json.loads((tmp_path / "metrics.json").read_text())
        return content

    return run


def test_metrics_contain_scores_protocol_and_digests(
    evaluated: Evaluate, trained: Path, references: tuple[Path, Path]
) -> None:
    content = evaluated()
    assert content["protocol"]["name"] == FID
    assert content[FID] > content["floor"] > 0
    assert content[f"{FID}_spread"] > 0
    assert content["images_seen"] == 100
    assert content["generator"] == file_sha256(trained / "generator.safetensors")
    assert content["reference"] == file_sha256(references[1])
    assert content["untrained"] != content[FID]
    protocol = content["protocol"]
    assert (
        protocol["num_samples"] == 40
        and protocol["num_real"] == 600
        and protocol["shape"] == [32, 32, 1]
    )
    assert "lanczos" in protocol["preprocessing"] and "libjpeg" in protocol["preprocessing"]
    # As many images as the reference's subset has.
    for metric in ("kid", "precision", "recall", "memorised"):
        assert np.isfinite(content[f"{metric}20_efficientnet-lite0-32"])
    assert content["sample_metrics"]["images"] == 20
    assert content["sample_metrics"]["kid_subsets"] == [100, 10]


def test_the_fid_is_the_mean_over_three_sets_of_latents(
    evaluated: Evaluate, trained: Path, references: tuple[Path, Path], device: torch.device
) -> None:
    content = evaluated()
    generator = load_generator(trained / "generator.safetensors", device)
    scorer = Scorer(Statistics.load(references[1]), 160, device)
    fids = [scorer.sample(generator, 40, seed).fid for seed in SEEDS]
    assert content[FID] == pytest.approx(sum(fids) / 3, abs=1e-4)
    assert content[f"{FID}_spread"] == pytest.approx(np.std(fids, ddof=1), abs=1e-4)
    assert content[FID] == scorer.mean_fid(generator, 40)
    untrained = load_generator(trained / "untrained.safetensors", device)
    fid = scorer.sample(untrained, 40, SEEDS[0]).fid
    assert content["untrained"] == pytest.approx(fid, abs=1e-4)


def test_every_fid_is_on_record_with_its_set_of_latents(evaluated: Evaluate) -> None:
    content = evaluated()
    assert len(content["fids"]) == 3
    assert np.mean(content["fids"]) == pytest.approx(content[FID], abs=1e-4)
    assert np.std(content["fids"], ddof=1) == pytest.approx(content[f"{FID}_spread"], abs=1e-4)
    # Far above the trained generator's, so that one set of latents is enough.
    assert content["untrained_fids"] == [content["untrained"]]
    assert content["untrained"] > 2 * content[FID]
    assert "untrained_spread" not in content


def test_an_untrained_fid_close_to_the_trained_one_has_a_spread(
    evaluated: Evaluate, trained: Path
) -> None:
    shutil.copyfile(trained / "generator.safetensors", trained / "untrained.safetensors")
    events: list[Any] = []
    content = evaluated(on_event=events.append)
    assert content["untrained_fids"] == content["fids"]
    assert content["untrained_spread"] == content[f"{FID}_spread"]
    done = [event for event in events if isinstance(event, Progress)]
    assert (done[-1].done, done[-1].total) == (240, 240)


def test_scores_of_images_state_their_standard_error(evaluated: Evaluate) -> None:
    content = evaluated()
    for metric in ("kid", "precision", "recall", "memorised"):
        name = f"{metric}20_efficientnet-lite0-32"
        assert content[f"{name}_stderr"] > 0
        # The first key that starts with the metric is its value.
        assert next(key for key in content if key.startswith(metric)) == name
    for metric in ("precision", "recall"):
        assert content[f"{metric}20_efficientnet-lite0-32_stderr"] >= 1 / 20
    # The 20 stored held-out images.
    assert content["memorised20_efficientnet-lite0-32_expected"] == pytest.approx(1 / 21, abs=1e-6)
    assert content["omitted"].keys() == {"fid_heldout"}  # needs 100 training images


def test_the_fid_against_held_out_photographs_stands_beside_that_against_training_ones(
    evaluated: Evaluate, official: Path
) -> None:
    content = evaluated(official=official)
    held_out = len(Statistics.load(official).holdout)
    assert content["heldout_metrics"] == {
        "images": 40, "photographs": held_out, "groups": [300 // held_out, 1]
    }  # fmt: skip
    for name in ("heldout", "train", "heldout_floor", "gap_stderr"):
        assert content[f"{FID}_{name}"] > 0
    gap = content[f"{FID}_heldout"] - content[f"{FID}_train"]
    assert content[f"{FID}_gap"] == pytest.approx(gap, abs=2e-4)
    assert content["omitted"] == {} and content["warnings"] == []


def test_overfitting_is_a_warning_in_the_metrics_and_on_the_terminal(
    evaluated: Evaluate, official: Path, tmp_path: Path
) -> None:
    statistics = Statistics.load(official)
    far = replace(statistics, holdout=statistics.holdout + 100)
    far.save(tmp_path / "far")
    events: list[Any] = []
    (warning,) = evaluated(official=tmp_path / "far", on_event=events.append)["warnings"]
    assert "overfits its training photographs" in warning
    assert Message(warning) in events


def test_scores_from_too_few_images_are_left_out_with_the_reason(
    evaluated: Evaluate, references: tuple[Path, Path], tmp_path: Path
) -> None:
    statistics = Statistics.load(references[1])
    few = replace(statistics, subset=statistics.subset[:19], holdout=statistics.holdout[:5])
    few.save(tmp_path / "few")
    events: list[Any] = []
    content = evaluated(official=tmp_path / "few", on_event=events.append)
    reason = "19 images on each side; at least 20 are needed"
    memorised = "5 held-out images; at least 20 are needed"
    names = ("kid", "precision", "recall")
    assert content["omitted"] == dict.fromkeys(names, reason) | dict.fromkeys(
        ("memorised", "fid_heldout"), memorised
    )
    assert not any(key.startswith((*names, "memorised")) for key in content)
    texts = [event.text for event in events if isinstance(event, Message)]
    assert f"no score for memorised: {memorised}" in texts
    assert (tmp_path / "evaluation" / "nearest.png").exists()


FEW = make_params(evaluate={"num_samples": 20}).evaluate  # than the extractor's 24 features


def test_too_few_images_for_the_fid_stand_in_the_metrics(
    evaluated: Evaluate, references: tuple[Path, Path], tmp_path: Path
) -> None:
    statistics = Statistics.load(references[1])
    replace(statistics, metadata=statistics.metadata | {"count": 22}).save(tmp_path / "few")
    warnings = evaluated(official=tmp_path / "few", params=FEW)["warnings"]
    counts = ("22 photographs", "11 photographs in each half", "20 generated images")
    assert [w.startswith(count) for w, count in zip(warnings, counts, strict=True)] == [True] * 3


def test_a_warning_is_given_once(evaluated: Evaluate) -> None:
    events: list[Any] = []
    evaluated(params=FEW, on_event=events.append)  # of four sets of images
    texts = [event.text for event in events if isinstance(event, Message)]
    assert len([text for text in texts if "rank-deficient" in text]) == 1


def test_a_second_evaluation_is_byte_identical(evaluated: Evaluate, tmp_path: Path) -> None:
    files = [tmp_path / "metrics.json", *(tmp_path / "evaluation" / n for n in PICTURES)]
    contents = []
    for _ in range(2):
        evaluated()
        contents.append([path.read_bytes() for path in files])
    assert contents[0] == contents[1]


def test_evaluate_extracts_no_features_of_real_images(
    evaluated: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []

    class Counting(Extraction):
        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            counts.append(len(images))
            return super().__call__(images)

    monkeypatch.setattr(module, "Extraction", Counting)
    evaluated()
    assert sum(counts) == 4 * 40  # three sets of latents, and the untrained generator


def test_pictures_are_samples_nearest_pairs_and_quick_fid(
    evaluated: Evaluate, trained: Path, dataset: Path, device: torch.device, tmp_path: Path
) -> None:
    evaluated()
    folder = tmp_path / "evaluation"
    assert sorted(path.name for path in folder.iterdir()) == list(PICTURES)
    generator = load_generator(trained / "generator.safetensors", device)
    images = torch.cat(list(generate(generator, latents(144, 10, seed=0)))).cpu()
    samples = np.asarray(Image.open(folder / "samples.png"))
    assert np.array_equal(samples, grid(images).squeeze(-1))
    # 20 pairs of an image of the first 20 seeds and, on its right, a training image.
    rows = -(-min(20, PAIRS) // ROW)
    pairs = np.asarray(Image.open(folder / "nearest.png"))
    assert pairs.shape == (32 * rows, 64 * ROW)
    photographs, found = load_images(dataset).numpy()[..., 0], set[int]()
    for number in range(20):
        row, column = divmod(number, ROW)
        left, right = np.split(pairs[32 * row :][:32, 64 * column :][:, :64], 2, axis=1)
        assert (photographs == right).all((1, 2)).any()
        differences = np.abs(images[:20, :, :, 0].numpy().astype(int) - left).max((1, 2))
        assert differences.min() <= 1
        found.add(int(differences.argmin()))
    assert found == set(range(20))


def test_a_picture_that_cannot_be_drawn_is_a_message_and_the_scores_are_written(
    evaluated: Evaluate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*arguments: Any) -> None:
        raise MemoryError

    whole = evaluated()
    with monkeypatch.context() as patch:
        patch.setattr(stage, "_samples", fail)
        patch.setattr("facegan.evaluate.plots.plot_quick_fid", fail)
        messages: list[str] = []
        assert (
            evaluated(on_event=lambda event: messages.append(getattr(event, "text", ""))) == whole
        )
    names = [path.name for path in (tmp_path / "evaluation").iterdir()]
    assert names == ["nearest.png"]
    for name in ("samples.png", "quick_fid.png"):
        assert any(text.startswith(f"{name}: not written (MemoryError)") for text in messages)
    evaluated()  # the folder is still known as this stage's
    assert len(list((tmp_path / "evaluation").iterdir())) == 3


def test_the_nearest_neighbours_of_copies_are_their_originals(
    references: tuple[Path, Path], dataset: Path, device: torch.device
) -> None:
    from facegan.evaluate.sample_metrics import sample_metrics

    statistics = Statistics.load(references[1])
    images = load_images(dataset)[statistics.train_indices]
    scorer = Scorer(statistics, len(images), device)
    others = sample_metrics(statistics, scorer.measure([(0, images)], len(images)))
    assert others.scores["memorised20_efficientnet-lite0-32"] == 1
    assert torch.equal(others.memorisation.nearest, torch.arange(len(images)))
    assert others.scores["precision20_efficientnet-lite0-32"] == 1


def test_without_held_out_images_there_is_no_memorisation_score(
    evaluated: Evaluate, digits: Path, device: torch.device, tmp_path: Path
) -> None:
    small = make_params(preprocess={"holdout": 0.0})
    preprocess(digits, tmp_path / "dataset", small.preprocess)
    quick, official = tmp_path / "quick", tmp_path / "official"
    reference(tmp_path / "dataset", quick, official, small.reference, device)
    content = evaluated(dataset=tmp_path / "dataset", official=official)
    assert not any(name.startswith("memorised") for name in content)
    assert content["omitted"] == dict.fromkeys(
        ("memorised", "fid_heldout"), "0 held-out images; at least 20 are needed"
    )
    assert (tmp_path / "evaluation" / "nearest.png").exists()


def assert_rejected(evaluated: Evaluate, tmp_path: Path, message: str, **changes: Any) -> None:
    """Fails with one line and leaves no outputs."""
    with pytest.raises(FaceganError, match=message) as caught:
        evaluated(**changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "metrics.json").exists() and not (tmp_path / "evaluation").exists()


def test_a_generator_of_another_shape_is_rejected(
    evaluated: Evaluate, trained: Path, tmp_path: Path
) -> None:
    config: dict[str, Any] = {
        "architecture": "dcgan",
        "size": 64,
        "channels": 3,
        "latent_dim": 10,
        "base_channels": 2,
    }
    network = build_generator(**config)
    save_network(network.state_dict(), config, trained / "generator.safetensors")
    assert_rejected(evaluated, tmp_path, r"\[32, 32, 1\].*\[64, 64, 3\]")


def test_a_generator_whose_output_contains_nan_is_rejected(
    evaluated: Evaluate, trained: Path, tmp_path: Path
) -> None:
    state, config = load_network(trained / "generator.safetensors")
    state["layers.1.running_var"] = torch.full_like(state["layers.1.running_var"], -1.0)
    save_network(state, config, trained / "generator.safetensors")
    assert_rejected(evaluated, tmp_path, "generator output contains NaN")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_size": 64}, "settings: input_size is 32, expected 64; run again: dvc repro"),
        (
            {"extractor": "inception", "input_size": 299},
            "extractor is efficientnet-lite0, expected inception; input_size is 32, expected 299",
        ),
    ],
)
def test_a_reference_with_other_settings_is_rejected(
    change: dict[str, Any], message: str, evaluated: Evaluate, tmp_path: Path
) -> None:
    requested = Extractor.model_validate(make_params().reference.official.model_dump() | change)
    assert_rejected(evaluated, tmp_path, message, requested=requested)


def test_a_float32_fallback_for_bfloat16_is_accepted(evaluated: Evaluate) -> None:
    requested = make_params().reference.official.model_copy(update={"dtype": "bfloat16"})
    assert evaluated(requested=requested)["protocol"]["dtype"] == "float32"


def test_statistics_for_the_quick_fid_are_refused(
    evaluated: Evaluate, references: tuple[Path, Path]
) -> None:
    settings = Extractor(**Statistics.load(references[0]).metadata["extractor"])
    with pytest.raises(FaceganError, match="no features of single images; expected the official"):
        evaluated(official=references[0], requested=settings)


def test_a_reference_of_a_different_dataset_is_rejected(
    evaluated: Evaluate, digits: Path, tmp_path: Path
) -> None:
    preprocess(digits, tmp_path / "other", make_params(preprocess={"holdout": 0.5}).preprocess)
    message = "computed on a different dataset than .*other; run again: dvc repro reference"
    assert_rejected(evaluated, tmp_path, message, dataset=tmp_path / "other")


def test_fewer_images_than_features_cause_a_warning_with_both_numbers(evaluated: Evaluate) -> None:
    events: list[Any] = []
    evaluated(params=FEW, on_event=events.append)
    texts = {event.text for event in events if isinstance(event, Message)}
    assert any("20 generated images for 24 features" in text for text in texts)
    assert len(texts) == 2  # and that there is no score for fid_heldout


@pytest.mark.parametrize(
    ("output", "path", "message"),
    [
        ("out", "thesis.tex", "thesis.tex: is a file, expected a folder"),
        ("out", "thesis", "thesis: was not written by this stage"),
        ("out", "thesis.tex/out", "thesis.tex: cannot be written to"),
        ("out", "train/out", "train: overlaps the output folder"),
        ("metrics", "thesis", "thesis: is a folder, expected a file"),
        ("metrics", "thesis.tex", "thesis.tex: was not written by this stage"),
        ("metrics", "thesis.tex/metrics.json", "thesis.tex: cannot be written to"),
        ("metrics", "train/history.jsonl", "train: overlaps the output file"),
    ],
)
def test_unusable_outputs_are_refused_before_the_first_image(
    output: str,
    path: str,
    message: str,
    evaluated: Evaluate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Scorer, "sample", None)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").touch()
    (tmp_path / "thesis.tex").write_text("text")
    assert_rejected(evaluated, tmp_path, re.escape(message), **{output: tmp_path / path})
    assert (tmp_path / "thesis.tex").read_text() == "text"


@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_outputs_are_never_written_through_links(
    link: str, evaluated: Evaluate, tmp_path: Path
) -> None:
    evaluated()
    outputs = [tmp_path / "metrics.json", *(tmp_path / "evaluation").iterdir()]
    cache = tmp_path / "cache"
    cache.mkdir()
    for path in outputs:
        path.rename(cache / path.name).chmod(0o444)
        target = cache / path.name
        path.symlink_to(target) if link == "symbolic" else path.hardlink_to(target)
    before = contents(cache)
    evaluated(params=make_params(evaluate={"num_samples": 50}).evaluate)
    assert contents(cache) == before
    assert json.loads((tmp_path / "metrics.json").read_text())["protocol"]["num_samples"] == 50
