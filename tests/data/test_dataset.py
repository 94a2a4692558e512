import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import make_params
from facegan.core.errors import FaceganError
from facegan.data.dataset import data_sha256, load_images, preprocessing, require_same_data
from facegan.preprocess.stage import preprocess


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    """A copy of the dataset, to corrupt."""
    return shutil.copytree(dataset, tmp_path / "dataset")


@pytest.mark.parametrize("part", ["images", "holdout"])
def test_images_are_what_preprocess_wrote(part: str, dataset: Path) -> None:
    images = load_images(dataset, part)
    assert images.dtype == torch.uint8
    assert images.device.type == "cpu"
    assert np.array_equal(images.numpy(), np.load(dataset / f"{part}.npy"))


def test_images_are_memory_mapped_and_never_written_back(copy: Path) -> None:
    images = load_images(copy)
    before = (copy / "images.npy").read_bytes()
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert str(copy / "images.npy") in maps.read_text()
    images[:] = 7
    assert (copy / "images.npy").read_bytes() == before


def test_an_empty_part_has_no_images(digits: Path, tmp_path: Path) -> None:
    settings = make_params(preprocess={"holdout": 0.0}).preprocess
    preprocess(digits, tmp_path / "dataset", settings)
    images = load_images(tmp_path / "dataset", "holdout")
    assert (images.shape, images.dtype) == ((0, 32, 32, 1), torch.uint8)


@pytest.mark.parametrize("part", ["images", "holdout"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "longer", "empty", "missing", "folder"])
def test_a_corrupt_array_is_refused_with_advice(part: str, damage: str, copy: Path) -> None:
    path = copy / f"{part}.npy"
    content = path.read_bytes()
    damaged = {
        "flipped": content[:-1] + bytes([content[-1] ^ 1]),
        "truncated": content[:-1],
        "longer": content + b"\0",
        "empty": b"",
    }
    path.unlink()
    if damage in damaged:
        path.write_bytes(damaged[damage])
    elif damage == "folder":
        path.mkdir()
    with pytest.raises(FaceganError, match=f"^{path}: not usable .*; recreate it with: dvc "):
        load_images(copy, part)


def test_an_array_of_another_dtype_or_rank_is_refused(copy: Path) -> None:
    path = copy / "images.npy"
    for array in (np.zeros((3, 32, 32), np.uint8), np.zeros((3, 32, 32, 1), np.float32)):
        np.save(path, array)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        (copy / "dataset.json").write_text(json.dumps({"sha256": sha256}))
        with pytest.raises(FaceganError, match=r"expected uint8 \(N, H, W, C\)"):
            load_images(copy)


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", "1", "[" * 100_000])
def test_a_missing_or_corrupt_record_is_refused_with_advice(
    content: str | None, copy: Path
) -> None:
    path = copy / "dataset.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    for read in (load_images, data_sha256, preprocessing):
        with pytest.raises(
            FaceganError, match=f"^{path}: not usable .*; create it with: dvc repro"
        ):
            read(copy)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FaceganError, match="absent"):
        load_images(tmp_path / "absent")


def test_the_preprocessing_is_the_recorded_one(dataset: Path) -> None:
    record = json.loads((dataset / "dataset.json").read_text())
    assert preprocessing(dataset) == record["preprocessing"]


@pytest.mark.parametrize("part", ["images", "holdout"])
def test_statistics_of_other_images_are_refused(part: str, copy: Path) -> None:
    metadata = {"data": data_sha256(copy), "holdout": data_sha256(copy, "holdout")}
    require_same_data(Path("quick"), metadata, copy)
    metadata["data" if part == "images" else part] = "0" * 64
    message = (
        rf"^quick: .* than {copy}; run again: dvc repro reference \({part}\.npy was 0{{12}}, is"
    )
    with pytest.raises(FaceganError, match=message):
        require_same_data(Path("quick"), metadata, copy)


def test_statistics_can_be_checked_without_the_held_out_part(copy: Path) -> None:
    """Training needs only the images."""
    metadata = {"data": data_sha256(copy), "holdout": data_sha256(copy, "holdout")}
    (copy / "holdout.json").unlink()
    require_same_data(Path("quick"), metadata, copy)
