import csv
import gzip
import hashlib
import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from facegan.errors import FaceganError
from facegan.params import Preprocess
from facegan.photographs import IDX_IMAGES
from facegan.preprocess import ArrayWriter, pack, preprocess

ORIENTATION = 0x0112  # EXIF's tag


def noise(seed: int, width: int = 12, height: int = 9, mode: str = "RGB") -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    shape = (height, width, channels) if channels > 1 else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8), mode=None)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def fill(folder: Path, seeds: range) -> Path:
    folder.mkdir(exist_ok=True)
    for seed in seeds:
        (folder / f"{seed:03}.png").write_bytes(encoded(noise(seed)))
    return folder


def settings(size: int = 32, channels: int = 3, holdout: float = 0.0) -> Preprocess:
    return Preprocess.model_validate({"resolution": size, "channels": channels, "holdout": holdout})


def index(out: Path) -> list[dict[str, str]]:
    with (out / "index.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_all_photographs_become_one_uint8_array(size: int, channels: int, tmp_path: Path) -> None:
    data, out = fill(tmp_path / "data", range(7)), tmp_path / "out"
    preprocess(data, out, settings(size, channels))
    images = np.load(out / "images.npy")
    assert images.dtype == np.uint8
    assert images.shape == (7, size, size, channels)
    for seed in range(7):
        assert np.array_equal(images[seed], pack(noise(seed), size, channels))


def test_the_digits_become_what_pillow_makes_of_them(digits: Path, dataset: Path) -> None:
    raw = (digits / "digits-images-idx3-ubyte").read_bytes()[16:]
    kept = [row for row in index(dataset) if row["verdict"] == "kept"]
    images = np.load(dataset / "images.npy")
    assert images.shape == (len(kept), 32, 32, 1)
    for row, image in list(zip(kept, images, strict=True))[::50]:
        number = int(row["source"].split("#")[1])
        digit = Image.frombytes("L", (28, 28), raw[784 * number : 784 * (number + 1)])
        expected = np.asarray(digit.resize((32, 32), Image.Resampling.LANCZOS))
        assert np.array_equal(image[:, :, 0], expected)


@pytest.mark.parametrize("channels", [1, 3])
@given(width=st.integers(1, 90), height=st.integers(1, 90), seed=st.integers(0, 99))
def test_the_central_square_is_resized_as_pillow_does(
    channels: int, width: int, height: int, seed: int
) -> None:
    image = noise(seed, width, height)
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = image.convert("L" if channels == 1 else "RGB")
    square = square.crop((left, top, left + side, top + side))
    expected = np.asarray(square.resize((32, 32), Image.Resampling.LANCZOS))
    assert np.array_equal(pack(image, 32, channels), expected.reshape(32, 32, channels))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_of_a_file_becomes_grey_or_rgb(mode: str, channels: int) -> None:
    image = noise(0, 40, 40).convert(mode)
    pixels = pack(image, 32, channels)
    assert pixels.shape == (32, 32, channels)
    expected = image.convert("L" if channels == 1 else "RGB").resize(
        (32, 32), Image.Resampling.LANCZOS
    )
    assert np.array_equal(pixels, np.asarray(expected).reshape(32, 32, channels))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_upright_first(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    (tmp_path / "data").mkdir()
    for name in ("a.jpg", "b.jpg"):
        content = encoded(noise(3, 50, 40), "JPEG", exif=exif)
        (tmp_path / "data" / name).write_bytes(content)
    preprocess(tmp_path / "data", tmp_path / "out", settings())
    # Turned by hand, from the pixels alone.
    upright = Image.open(io.BytesIO(content))
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE",
             6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}  # fmt: skip
    plain = Image.fromarray(np.asarray(upright))
    if orientation > 1:
        plain = plain.transpose(Image.Transpose[turns[orientation]])
    assert np.array_equal(np.asarray(ImageOps.exif_transpose(upright)), np.asarray(plain))
    assert np.array_equal(np.load(tmp_path / "out" / "images.npy")[0], pack(plain, 32, 3))


def test_the_index_has_every_input_in_order_with_digest_size_and_verdict(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    pixels = bytes(range(12))
    files = {
        "a.png": encoded(noise(1, 30, 20)),
        "c.txt": b"notes",
        "source.json": b"{}",
        "z.jpg": encoded(noise(2, 7, 8), "JPEG"),
    }
    data.mkdir()
    for name, content in files.items():
        (data / name).write_bytes(content)
    with zipfile.ZipFile(data / "b.zip", "w") as archive:
        archive.writestr("in, quotes.png", files["a.png"])
    idx = IDX_IMAGES + struct.pack(">3I", 2, 2, 3) + pixels
    (data / "d.gz").write_bytes(gzip.compress(idx))
    preprocess(data, out, settings())
    expected = [
        ("a.png", files["a.png"], "30", "20", "kept"),
        ("b.zip/in, quotes.png", files["a.png"], "30", "20", "kept"),
        ("c.txt", files["c.txt"], "", "", "not-an-image"),
        ("d.gz#0", pixels[:6], "3", "2", "kept"),
        ("d.gz#1", pixels[6:], "3", "2", "kept"),
        ("z.jpg", files["z.jpg"], "7", "8", "kept"),
    ]
    columns = ("source", "sha256", "width", "height", "verdict")
    assert [tuple(row[column] for column in columns) for row in index(out)] == [
        (name, hashlib.sha256(content).hexdigest(), *rest) for name, content, *rest in expected
    ]


def test_each_image_lies_in_the_array_of_its_verdict_in_order(tmp_path: Path) -> None:
    data, out = fill(tmp_path / "data", range(40)), tmp_path / "out"
    preprocess(data, out, settings(holdout=0.4))
    arrays = {
        verdict: iter(np.load(out / f"{part}.npy"))
        for verdict, part in (("kept", "images"), ("held-out", "holdout"))
    }
    verdicts = [row["verdict"] for row in index(out)]
    assert set(verdicts) == {"kept", "held-out"}
    for seed, verdict in enumerate(verdicts):
        assert np.array_equal(next(arrays[verdict]), pack(noise(seed), 32, 3))
    assert all(next(array, None) is None for array in arrays.values())


def test_the_held_out_share_is_about_what_was_asked_for(dataset: Path) -> None:
    held_out = sum(row["verdict"] == "held-out" for row in index(dataset))
    # 0.1 of 600, give or take 4 standard deviations.
    assert abs(held_out - 60) < 4 * (600 * 0.1 * 0.9) ** 0.5


def test_nothing_is_held_out_at_zero(tmp_path: Path) -> None:
    preprocess(fill(tmp_path / "data", range(5)), tmp_path / "out", settings(holdout=0.0))
    assert np.load(tmp_path / "out" / "holdout.npy").shape == (0, 32, 32, 3)


@given(first=st.integers(4, 12), more=st.integers(1, 8), holdout=st.floats(0.1, 0.6))
def test_photographs_that_are_added_move_none_to_the_other_side(
    first: int, more: int, holdout: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("growing")
    seen = []
    for seeds in (range(10, 10 + first), range(10 - more // 2, 10 + first + more)):
        try:
            preprocess(fill(folder / "data", seeds), folder / "out", settings(holdout=holdout))
        except FaceganError:
            return  # nearly all are held out
        seen.append({row["sha256"]: row["verdict"] for row in index(folder / "out")})
    before, after = seen
    assert len(after) > len(before)
    assert before.items() <= after.items()


def test_a_copy_under_another_name_is_on_the_same_side(tmp_path: Path) -> None:
    data = fill(tmp_path / "data", range(12))
    for path in list(data.iterdir()):
        (data / f"copy of {path.name}").write_bytes(path.read_bytes())
    preprocess(data, tmp_path / "out", settings(holdout=0.5))
    sides: dict[str, set[str]] = {}
    for row in index(tmp_path / "out"):
        sides.setdefault(row["sha256"], set()).add(row["verdict"])
    assert len(sides) == 12
    assert all(len(side) == 1 for side in sides.values())


def test_the_report_has_the_files_digests_and_the_counts(dataset: Path) -> None:
    report = json.loads((dataset / "report.json").read_text())
    for name in ("images.npy", "holdout.npy"):
        assert report["sha256"][name] == hashlib.sha256((dataset / name).read_bytes()).hexdigest()
    verdicts = [row["verdict"] for row in index(dataset)]
    assert report["verdicts"] == {name: verdicts.count(name) for name in set(verdicts)}
    assert (report["inputs"], report["resolution"], report["channels"]) == (600, 32, 1)
    assert report["recipe"].startswith("centre crop, Lanczos, full decoding by libjpeg ")


def test_the_same_photographs_give_the_same_bytes(tmp_path: Path) -> None:
    outs = [tmp_path / "one", tmp_path / "two"]
    for out in outs:
        data = fill(tmp_path / f"data of {out.name}", range(9))
        preprocess(data, out, settings(holdout=0.3))
    first, second = map(contents, outs)
    assert first == second
    assert sorted(first) == ["holdout.npy", "images.npy", "index.csv", "report.json"]


def test_progress_goes_from_one_to_all(tmp_path: Path) -> None:
    events: list[Any] = []
    data = fill(tmp_path / "data", range(4))
    (data / "notes.txt").write_text("no image")
    preprocess(data, tmp_path / "out", settings(), events.append)
    assert events == [{"event": "progress", "done": n, "total": 5} for n in range(1, 6)]


def test_an_unreadable_photograph_is_named_and_the_output_stays_as_it_was(tmp_path: Path) -> None:
    data, out = fill(tmp_path / "data", range(4)), tmp_path / "out"
    preprocess(data, out, settings())
    before = contents(out)
    (data / "below").mkdir()
    content = encoded(noise(1, 64, 64), "JPEG")
    (data / "below" / "half.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(FaceganError, match=r"^below/half\.jpg: not a readable JPEG or PNG"):
        preprocess(data, out, settings())
    assert contents(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]


@pytest.mark.parametrize("number", [0, 1])
def test_too_few_photographs_lead_to_fetch(number: int, tmp_path: Path) -> None:
    data = fill(tmp_path / "data", range(number))
    (data / "notes.txt").write_text("no image")
    with pytest.raises(FaceganError, match=f"{data}: {number} photographs .*facegan fetch"):
        preprocess(data, tmp_path / "out", settings())
    assert not (tmp_path / "out").exists()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FaceganError, match="absent: no such folder"):
        preprocess(tmp_path / "absent", tmp_path / "out", settings())


@pytest.mark.parametrize("where", [".", "..", "below"])
def test_the_photographs_are_never_replaced_by_the_output(where: str, tmp_path: Path) -> None:
    data = fill(tmp_path / "photographs", range(4))
    (data / "below").mkdir()
    (data / "below" / "dear.txt").write_text("dear")
    before = contents(data / "below") | {path.name: path.read_bytes() for path in data.glob("*.*")}
    with pytest.raises(FaceganError, match=str(data)):
        preprocess(data, (data / where).resolve(), settings())
    assert before == contents(data / "below") | {
        path.name: path.read_bytes() for path in data.glob("*.*")
    }


def test_a_folder_of_somebody_elses_is_never_replaced(tmp_path: Path) -> None:
    data, out = fill(tmp_path / "data", range(4)), tmp_path / "holiday"
    out.mkdir()
    (out / "dear.txt").write_text("dear")
    with pytest.raises(FaceganError, match=str(out)):
        preprocess(data, out, settings())
    assert contents(out) == {"dear.txt": b"dear"}


@given(count=st.integers(0, 30), height=st.integers(1, 5), channels=st.sampled_from([1, 3]))
def test_the_writer_writes_what_numpy_reads(
    count: int, height: int, channels: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = np.random.default_rng(count).integers(0, 256, (count, height, 4, channels), np.uint8)
    path = tmp_path_factory.mktemp("array") / "a.npy"
    with ArrayWriter(path, (height, 4, channels)) as writer:
        for row in rows:
            writer.append(row)
        digest = writer.finish()
    assert np.array_equal(np.load(path), rows)
    assert np.load(path, mmap_mode="r").shape == rows.shape
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("count", [9, 10, 99, 100, 1000, 99_999, 100_000])
def test_the_header_keeps_its_length_whatever_the_count(count: int, tmp_path: Path) -> None:
    row = np.zeros((1, 1, 1), np.uint8)
    with ArrayWriter(tmp_path / "a.npy", row.shape) as writer:
        for _ in range(count):
            writer.append(row)
        writer.finish()
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.zeros((count, 1, 1, 1), np.uint8))
