import csv
import hashlib
import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facegan.core.errors import FaceganError
from facegan.core.events import Message, Progress, silent
from facegan.params import Preprocess, load_params
from facegan.photos.colour import ADOBE_GAMMA, ADOBE_RGB, matrix_profile
from facegan.photos.discovery import find
from facegan.photos.inputs import Folder
from facegan.preprocess.dataset_writer import DatasetWriter
from facegan.preprocess.packing import Row, pack_inputs
from facegan.preprocess.stage import CHUNK, preprocess

OUTPUTS = [
    *("brightness.csv", "dataset.json", "holdout.json", "holdout.npy", "images.npy", "index.csv"),
    *("mean.png", "preview.png", "report.json", "sizes.csv"),
]


def settings(**changes: Any) -> Preprocess:
    """The digits preset in colour, for photographs of at least 8 pixels, none held out."""
    with resources.as_file(resources.files("facegan") / "presets" / "digits.yaml") as path:
        preset = load_params(path).preprocess.model_dump()
    small = {"channels": 3, "min_side": 8, "holdout": 0.0, "max_rejected": 1.0}
    return Preprocess.model_validate(preset | small | changes)


def noise(seed: int, width: int = 12, height: int = 9) -> Image.Image:
    shape = (height, width, 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def fill(folder: Path, seeds: Iterable[int]) -> Path:
    folder.mkdir(exist_ok=True)
    for seed in seeds:
        (folder / f"{seed:04}.png").write_bytes(encoded(noise(seed)))
    return folder


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def run_inline(data: Path, out: Path, params: Preprocess, on_event: Any = silent) -> None:
    """What `preprocess` does, without worker processes."""
    root = Folder(data)
    out.mkdir()
    with DatasetWriter(out, params, {}) as writer:
        writer.add(*pack_inputs(root, list(find(root)), params), on_event)
        writer.finish(str(data))


def index(out: Path) -> list[dict[str, str]]:
    with (out / "index.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def statuses(out: Path) -> dict[str, str]:
    return {row["path"]: row["status"] for row in index(out)}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_packed_digits_equal_pillows(digits: Path, dataset: Path) -> None:
    raw = (digits / "digits-images-idx3-ubyte").read_bytes()[16:]
    kept = [row for row in index(dataset) if row["status"] == "kept"]
    images = np.load(dataset / "images.npy")
    assert images.shape == (len(kept), 32, 32, 1)
    for row, image in list(zip(kept, images, strict=True))[::50]:
        number = int(row["path"].split("#")[1])
        digit = Image.frombytes("L", (28, 28), raw[784 * number : 784 * (number + 1)])
        expected = np.asarray(digit.resize((32, 32), Image.Resampling.LANCZOS))
        assert np.array_equal(image[:, :, 0], expected)


def test_the_index_lists_every_input_in_order(tmp_path: Path) -> None:
    one, two = encoded(noise(1, 30, 20)), encoded(noise(2, 9, 8), "JPEG")
    files = {"a.png": one, "c.txt": b"notes", "source.json": b"{}", "x/y, z.jpg": two, "z.jpg": b""}
    run_inline(write(tmp_path / "data", files), tmp_path / "out", settings())
    expected = [
        ("a.png", one, "30", "20", "kept"),
        ("c.txt", b"notes", "", "", "not-an-image"),
        ("x/y, z.jpg", two, "9", "8", "kept"),
        ("z.jpg", b"", "", "", "unreadable"),
    ]
    columns = ("path", "sha256", "width", "height", "status", "original")
    assert [tuple(row[column] for column in columns) for row in index(tmp_path / "out")] == [
        (name, hashlib.sha256(content).hexdigest(), *rest, "") for name, content, *rest in expected
    ]


def test_original_names_and_skipped_files_come_from_the_manifest(tmp_path: Path) -> None:
    data = fill(tmp_path / "data", range(3))
    manifest = {
        "source": "photographs",
        "files": {},
        "originals": {"0001.png": "caf\\xe9.png"},
        "skipped": {"gone.jpg": "vanished", "link.jpg": "link"},
    }
    (data / "source.json").write_text(json.dumps(manifest))
    preprocess(data, tmp_path / "out", settings(), workers=1)
    rows = {row["path"]: (row["status"], row["original"]) for row in index(tmp_path / "out")}
    assert rows == {
        "0000.png": ("kept", ""),
        "0001.png": ("kept", "caf\\xe9.png"),
        "0002.png": ("kept", ""),
        "gone.jpg": ("vanished", ""),
        "link.jpg": ("link", ""),
    }


def test_each_image_is_in_the_array_of_its_status_in_order(tmp_path: Path) -> None:
    data, out = fill(tmp_path / "data", range(40)), tmp_path / "out"
    params = settings(holdout=0.4)
    run_inline(data, out, params)
    arrays = {
        status: iter(np.load(out / f"{part}.npy"))
        for status, part in (("kept", "images"), ("held-out", "holdout"))
    }
    _, pixels = pack_inputs(Folder(data), list(find(Folder(data))), params)
    found = [row["status"] for row in index(out)]
    assert set(found) == {"kept", "held-out"}
    for image, status in zip(pixels, found, strict=True):
        assert np.array_equal(next(arrays[status]), image)
    assert all(next(array, None) is None for array in arrays.values())


def test_a_picture_that_cannot_be_written_is_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise MemoryError

    messages = list[str]()
    monkeypatch.setattr("facegan.preprocess.dataset_writer.save_preview", fail)
    data, out = fill(tmp_path / "data", range(3)), tmp_path / "out"
    preprocess(
        data, out, settings(), on_event=lambda event: messages.append(getattr(event, "text", ""))
    )
    assert sorted(p.name for p in out.iterdir()) == [n for n in OUTPUTS if n != "preview.png"]
    assert any(text.startswith("preview.png: not written (MemoryError)") for text in messages)


def test_the_held_out_share_is_close_to_the_requested_one(dataset: Path) -> None:
    held_out = sum(row["status"] == "held-out" for row in index(dataset))
    # 0.1 of 600, within 4 standard deviations.
    assert abs(held_out - 60) < 4 * (600 * 0.1 * 0.9) ** 0.5


@given(first=st.integers(4, 12), more=st.integers(1, 8), holdout=st.floats(0.1, 0.6))
def test_adding_photographs_moves_none_to_the_other_split(
    first: int, more: int, holdout: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("growing")
    seen = []
    for turn, seeds in enumerate((range(10, 10 + first), range(10 - more // 2, 10 + first + more))):
        try:
            out = folder / f"out {turn}"
            run_inline(fill(folder / "data", seeds), out, settings(holdout=holdout))
        except FaceganError:
            return  # nearly all are held out
        seen.append({row["sha256"]: row["status"] for row in index(out)})
    before, after = seen
    assert len(after) > len(before)
    assert before.items() <= after.items()


def copies(folder: Path) -> Path:
    """A photograph, a copy, the same pixels in another format, and another photograph."""
    face = noise(0, 20, 20)
    content = encoded(face)
    return write(
        folder,
        {
            "a.png": content,
            "b.png": content,
            "c.bmp": encoded(face, "BMP"),
            "d.png": encoded(noise(1)),
        },
    )


def test_duplicates_are_dropped_and_name_the_first(tmp_path: Path) -> None:
    run_inline(copies(tmp_path / "data"), tmp_path / "out", settings())
    assert statuses(tmp_path / "out") == {
        "a.png": "kept",
        "b.png": "duplicate of a.png",
        "c.bmp": "duplicate of a.png",
        "d.png": "kept",
    }
    assert len(np.load(tmp_path / "out" / "images.npy")) == 2


def test_duplicates_are_kept_on_request(tmp_path: Path) -> None:
    run_inline(copies(tmp_path / "data"), tmp_path / "out", settings(duplicates="keep"))
    assert set(statuses(tmp_path / "out").values()) == {"kept"}


def test_near_duplicates_are_dropped_only_on_request(tmp_path: Path) -> None:
    face = noise(5, 8, 8).resize((64, 64), Image.Resampling.BICUBIC)  # smooth like photographs
    files = {
        "a.png": encoded(face),
        "b.jpg": encoded(face, "JPEG", quality=80),
        "c.png": encoded(face.resize((60, 60))),
        "d.png": encoded(noise(3, 64, 64)),
    }
    data = write(tmp_path / "data", files)
    run_inline(data, tmp_path / "exact", settings())
    assert set(statuses(tmp_path / "exact").values()) == {"kept"}
    run_inline(data, tmp_path / "near", settings(near_duplicates=6))
    assert statuses(tmp_path / "near") == {
        "a.png": "kept",
        "b.jpg": "near-duplicate of a.png",
        "c.png": "near-duplicate of a.png",
        "d.png": "kept",
    }


def test_the_largest_of_near_duplicates_stays(tmp_path: Path) -> None:
    face = noise(5, 8, 8).resize((64, 64), Image.Resampling.BICUBIC)
    files = {
        "a.jpg": encoded(face.resize((40, 40)), "JPEG", quality=80),
        "b.png": encoded(face),
        "c.png": encoded(noise(3, 64, 64)),
        "d.txt": b"text",
        "e.png": encoded(face.resize((60, 60))),
        "f.jpg": b"",
    }
    data = write(tmp_path / "data", files)
    run_inline(data, tmp_path / "out", settings(near_duplicates=6))
    assert statuses(tmp_path / "out") == {
        "a.jpg": "near-duplicate of b.png",
        "b.png": "kept",
        "c.png": "kept",
        "d.txt": "not-an-image",
        "e.png": "near-duplicate of b.png",
        "f.jpg": "unreadable",
    }
    _, pixels = pack_inputs(Folder(data), list(find(Folder(data))), settings())
    assert np.array_equal(np.load(tmp_path / "out" / "images.npy"), pixels[1:3])


def test_dropping_near_duplicates_changes_no_other_output(tmp_path: Path) -> None:
    data = fill(tmp_path / "data", range(2 * CHUNK + 5))
    write(data, {"0010.jpg": b"", "0100 copy.png": encoded(noise(3))})
    params = settings(holdout=0.2)
    preprocess(data, tmp_path / "one", params, workers=1)
    changed = params.model_copy(update={"near_duplicates": 0})
    preprocess(data, tmp_path / "two", changed, workers=1)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


RAW = b"FUJIFILMCCD-RAW 0201" + bytes(100)


def test_a_raw_file_beside_its_photograph_is_not_unusable(tmp_path: Path) -> None:
    data = fill(tmp_path / "data", range(5))
    write(data, {"0000.RAF": RAW, "0003.raf": RAW, "v.mp4": b"video", "@eaDir/0000.png/x.jpg": b""})
    run_inline(data, tmp_path / "out", settings(max_rejected=0.0))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["inputs"], report["rejected"]) == (9, 0)
    assert report["statuses"] == {
        "kept": 5, "machine-made": 1, "unsupported-camera-raw": 2, "video": 1,
    }  # fmt: skip


def test_what_is_not_packed_is_named_once_but_for_documents(tmp_path: Path) -> None:
    data = fill(tmp_path / "data", range(5))
    write(data, {"labels.h5": b"\x89HDF\r\n\x1a\n", "v.mp4": b"video", "notes.txt": b"notes"})
    events = list[Any]()
    preprocess(
        data, tmp_path / "out", settings(max_rejected=0.0), workers=1, on_event=events.append
    )
    texts = [event.text for event in events if isinstance(event, Message)]
    assert texts == ["not packed: 1 data-hdf5, 1 video; index.csv names them"]


def test_a_raw_file_without_its_photograph_is_unusable(tmp_path: Path) -> None:
    data = fill(tmp_path / "data", range(5))
    write(data, {"0000.RAF": RAW, "lost.RAF": RAW, "below/0001.RAF": RAW})
    with pytest.raises(FaceganError) as caught:
        run_inline(data, tmp_path / "out", settings(max_rejected=0.0))
    assert "2 of 8 inputs are unusable" in str(caught.value)
    names = ("below/0001.RAF", "lost.RAF")
    expected = ", ".join(f"{name} (unsupported-camera-raw)" for name in names)
    assert str(caught.value).endswith(f"the first: {expected}")


def test_converted_profiles_are_counted_and_part_of_the_preprocessing(tmp_path: Path) -> None:
    profile = matrix_profile(ADOBE_RGB, ADOBE_GAMMA)
    data = fill(tmp_path / "data", range(3))
    records = []
    for name, content in (
        ("plain", encoded(noise(7))),
        ("ignored", encoded(noise(7), icc_profile=b"garbage")),
        ("converted", encoded(noise(7), icc_profile=profile)),
    ):
        write(data, {"x.png": content})
        run_inline(data, tmp_path / name, settings())
        report = json.loads((tmp_path / name / "report.json").read_text())
        assert report["profiles"] == {
            "converted": name == "converted",
            "ignored": name == "ignored",
        }
        record = json.loads((tmp_path / name / "dataset.json").read_text())
        records.append(record["preprocessing"])
    assert records[0] == records[1]
    assert records[2].startswith(f"{records[0]}, colours to sRGB by LittleCMS ")


def some_bad(folder: Path) -> Path:
    """Nine photographs, a duplicate, a text and three unusable files."""
    fill(folder, range(9))
    bad = {f"bad {n}.jpg": b"" for n in range(3)}
    return write(folder, {"README": b"text", "z.png": encoded(noise(0)), **bad})


def test_max_rejected_tolerates_unusable_inputs(tmp_path: Path) -> None:
    # Three of thirteen; the text does not count.
    run_inline(some_bad(tmp_path / "data"), tmp_path / "out", settings(max_rejected=3 / 13))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["inputs"], report["rejected"]) == (14, 3)
    assert report["statuses"] == {"duplicate": 1, "kept": 9, "not-an-image": 1, "unreadable": 3}


def test_more_unusable_inputs_than_max_rejected_fail_with_one_line(tmp_path: Path) -> None:
    data = some_bad(tmp_path / "data")
    with pytest.raises(FaceganError) as caught:
        preprocess(data, tmp_path / "out", settings(max_rejected=0.23), workers=1)
    assert str(caught.value) == (
        f"{data}: 3 of 13 inputs are unusable, more than preprocess.max_rejected: 0.23 allows; "
        "the first: bad 0.jpg (unreadable), bad 1.jpg (unreadable), bad 2.jpg (unreadable)"
    )
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_only_the_first_ten_unusable_inputs_are_named(tmp_path: Path) -> None:
    data = write(fill(tmp_path / "data", range(2)), {f"{n:02}.jpg": b"" for n in range(25)})
    messages: list[str] = []

    def note(event: Any) -> None:
        messages.append(event.text)

    run_inline(data, tmp_path / "out", settings(), note)
    assert messages == [f"{n:02}.jpg: unreadable" for n in range(10)]
    with pytest.raises(FaceganError) as caught:
        run_inline(data, tmp_path / "two", settings(max_rejected=0.0))
    assert str(caught.value).count("(unreadable)") == 10


def test_a_name_with_a_line_feed_is_escaped_in_messages_but_not_in_the_index(
    tmp_path: Path,
) -> None:
    data = write(fill(tmp_path / "data", range(2)), {"a\nb.jpg": b"", "smile😀.jpg": b""})
    messages: list[str] = []
    run_inline(data, tmp_path / "out", settings(), lambda event: messages.append(event.text))
    assert messages == ["'a\\nb.jpg': unreadable", "smile😀.jpg: unreadable"]
    assert {"a\nb.jpg", "smile😀.jpg"} <= statuses(tmp_path / "out").keys()


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_photographs_are_an_error_that_advises_fetch(count: int, tmp_path: Path) -> None:
    data = write(fill(tmp_path / "data", range(count)), {"notes.txt": b"text"})
    with pytest.raises(FaceganError, match=f"{count} photographs to train on.*facegan fetch"):
        preprocess(data, tmp_path / "out", settings(), workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_each_array_has_a_record_of_its_sha256_and_shape(dataset: Path) -> None:
    for name, array in (("dataset", "images.npy"), ("holdout", "holdout.npy")):
        record = json.loads((dataset / f"{name}.json").read_text())
        assert record["sha256"] == hashlib.sha256((dataset / array).read_bytes()).hexdigest()
        assert tuple(record["shape"]) == np.load(dataset / array).shape


def test_an_input_that_is_not_an_image_does_not_change_arrays_and_records(
    tmp_path: Path,
) -> None:
    data = fill(tmp_path / "data", range(3))
    run_inline(data, tmp_path / "one", settings())
    write(data, {"README.md": b"about these photographs"})
    run_inline(data, tmp_path / "two", settings())
    for name in ("images.npy", "dataset.json", "holdout.npy", "holdout.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert (tmp_path / "one" / "index.csv").read_bytes() != (
        tmp_path / "two" / "index.csv"
    ).read_bytes()


def test_the_report_counts_statuses(dataset: Path) -> None:
    report = json.loads((dataset / "report.json").read_text())
    found = [row["status"] for row in index(dataset)]
    assert report["statuses"] == {name: found.count(name) for name in set(found)}
    assert (report["inputs"], report["resolution"], report["channels"]) == (600, 32, 1)


def test_crop_resampling_and_decoding_are_in_the_preprocessing(tmp_path: Path) -> None:
    data = fill(tmp_path / "data", range(3))
    found = set()
    settings_of: list[dict[str, Any]] = [
        {}, {"crop": "none"}, {"resample": "bicubic"}, {"jpeg": "full"}, {"background": 0},
    ]  # fmt: skip
    for number, changes in enumerate(settings_of):
        run_inline(data, tmp_path / str(number), settings(**changes))
        record = json.loads((tmp_path / str(number) / "dataset.json").read_text())
        found.add(record["preprocessing"])
    assert len(found) == 5
    assert all("libjpeg" in preprocessing for preprocessing in found)


def test_histograms_count_every_packed_photograph(tmp_path: Path) -> None:
    grey = {f"{level}.png": encoded(Image.new("RGB", (20 + level, 90), (level,) * 3))
            for level in (10, 11, 12)}  # fmt: skip
    run_inline(write(tmp_path / "data", grey), tmp_path / "out", settings(holdout=0.3))
    for name, rows in (
        ("sizes", ["short_side,photographs", "30,1", "31,1", "32,1"]),
        ("brightness", ["level,photographs", "10,1", "11,1", "12,1"]),
    ):
        assert (tmp_path / "out" / f"{name}.csv").read_text().splitlines() == rows


def test_the_mean_is_over_all_images(tmp_path: Path) -> None:
    run_inline(fill(tmp_path / "data", range(30)), tmp_path / "out", settings(holdout=0.3))
    parts = [np.load(tmp_path / "out" / f"{part}.npy") for part in ("images", "holdout")]
    assert all(len(part) for part in parts)
    mean = np.rint(np.concatenate(parts).mean(axis=0))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "mean.png")), mean)


def test_outputs_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    data = fill(tmp_path / "data", range(3 * CHUNK + 5))
    write(data, {"0010.jpg": b"", "0100 copy.png": encoded(noise(3))})
    outs = [tmp_path / name for name in ("one", "three", "inline")]
    params = settings(holdout=0.2)
    preprocess(data, outs[0], params, workers=1)
    preprocess(data, outs[1], params, workers=3)
    run_inline(data, outs[2], params)
    first, second, third = map(contents, outs)
    assert sorted(first) == OUTPUTS
    assert first == second == third


def test_progress_counts_up_to_the_number_of_inputs(tmp_path: Path) -> None:
    events: list[Any] = []
    data = write(fill(tmp_path / "data", range(CHUNK + 1)), {"notes.txt": b"no image"})
    preprocess(data, tmp_path / "out", settings(), workers=1, on_event=events.append)
    total = CHUNK + 2
    assert events == [Progress(n, total) for n in (CHUNK, total)]


@pytest.mark.parametrize("out", ["data", "data/below", "."])
def test_an_output_that_overlaps_the_photographs_is_refused(out: str, tmp_path: Path) -> None:
    data = fill(tmp_path / "data", range(3))
    before = contents(data)
    with pytest.raises(FaceganError, match="overlaps the output folder"):
        preprocess(data, tmp_path / out, settings())
    assert contents(data) == before


def test_a_folder_that_preprocess_did_not_write_is_refused(tmp_path: Path) -> None:
    data, out = fill(tmp_path / "data", range(3)), tmp_path / "out"
    write(out, {"dear.txt": b"dear"})
    with pytest.raises(FaceganError, match="was not written by this stage"):
        preprocess(data, out, settings())
    assert contents(out) == {"dear.txt": b"dear"}


def test_a_photograph_smaller_than_the_crop_box_fails_and_keeps_the_old_output(
    tmp_path: Path,
) -> None:
    data, out = fill(tmp_path / "data", range(3)), tmp_path / "out"
    preprocess(data, out, settings(), workers=1)
    before = contents(out)
    with pytest.raises(FaceganError, match=r"0000\.png: 12x9 pixels, smaller than preprocess.crop"):
        preprocess(data, out, settings(crop="box-108"), workers=1)
    assert contents(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]


@pytest.mark.faults
def test_a_killed_run_leaves_no_partial_output_and_the_next_is_correct(tmp_path: Path) -> None:
    fill(tmp_path / "data", range(20 * CHUNK))
    with resources.as_file(resources.files("facegan") / "presets" / "digits.yaml") as path:
        text = path.read_text().replace("min_side: 28", "min_side: 8")
    (tmp_path / "params.yaml").write_text(text)
    command = [str(Path(sys.executable).with_name("facegan")), "preprocess", "data", "out"]
    out = tmp_path / "out"

    def started() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)

    start = time.monotonic()
    assert started().wait() == 0
    expected, took = contents(out), time.monotonic() - start
    for share in (0.4, 0.6, 0.8, 0.9, 1.0):
        if share in (0.6, 0.9):
            shutil.rmtree(out, ignore_errors=True)
        process = started()
        time.sleep(share * took)
        process.kill()
        process.wait()
        assert not out.exists() or contents(out) == expected, share
    assert started().wait() == 0
    assert contents(out) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out", "params.yaml"]


def test_a_name_with_a_carriage_return_is_intact_in_the_index(tmp_path: Path) -> None:
    # The name that the Mac's Finder gives to a folder's icon.
    data = write(fill(tmp_path / "data", range(2)), {"Icon\r": b"", "a\r\nb,\r.jpg": b""})
    run_inline(data, tmp_path / "out", settings())
    assert list(statuses(tmp_path / "out")) == ["0000.png", "0001.png", "Icon\r", "a\r\nb,\r.jpg"]
    assert {len(row) for row in index(tmp_path / "out")} == {6}


@given(data=st.data(), candidates=st.integers(3, 300))
def test_max_rejected_is_an_exact_limit(
    data: st.DataObject, candidates: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rejected = data.draw(st.integers(1, candidates - 2))
    good = [Row(str(n), sha256="0" * 64, width=9, height=9) for n in range(candidates - rejected)]
    bad = [Row(f"{n}.jpg", status="unreadable") for n in range(rejected)]
    others = [Row(f"{n}.txt", status="not-an-image") for n in range(50)]
    pixels = np.zeros((len(good), 32, 32, 3), np.uint8)
    for limit, fails in ((rejected / candidates, False), ((rejected - 1) / candidates, True)):
        params = settings(max_rejected=limit, duplicates="keep")
        with DatasetWriter(tmp_path_factory.mktemp("out"), params, {}) as writer:
            writer.add([*good, *bad, *others], pixels, silent)
            if fails:
                with pytest.raises(FaceganError, match=f"{rejected} of {candidates} inputs"):
                    writer.finish("data")
            else:
                writer.finish("data")


def with_comment(jpeg: bytes, comment: bytes) -> bytes:
    """The same pixels in other bytes."""
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


def test_the_same_pixels_are_never_in_both_splits(tmp_path: Path) -> None:
    # Otherwise the generator is trained on images that it is evaluated with.
    files: dict[str, bytes] = {}
    for seed in range(20):
        content = encoded(noise(seed, 40, 40), "JPEG")
        files |= {f"{seed:02} {n}.jpg": with_comment(content, b"%d" % n) for n in range(4)}
    data, out = write(tmp_path / "data", files), tmp_path / "out"
    run_inline(data, out, settings(duplicates="keep", holdout=0.5))
    splits: dict[str, set[str]] = {}
    for path, status in statuses(out).items():
        splits.setdefault(path[:2], set()).add(status)
    assert len(splits) == 20
    assert all(len(split) == 1 for split in splits.values())


def test_sums_over_a_chunk_do_not_overflow(tmp_path: Path) -> None:
    rows = [Row(str(n), "f" * 64, 9, 9, digest=n.to_bytes(16)) for n in range(CHUNK)]
    with DatasetWriter(tmp_path, settings(), {}) as writer:
        writer.add(rows, np.full((CHUNK, *writer.sum.shape), 255, np.uint8), silent)
        assert (writer.sum == 255 * CHUNK).all()
        assert writer.levels == {255: CHUNK}


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("thesis.tex", "thesis.tex: is a file, expected a folder"),
        ("thesis.tex/out", "thesis.tex: cannot be written to"),
    ],
)
def test_an_unusable_output_is_refused_before_the_first_photograph(
    out: str, message: str, tmp_path: Path
) -> None:
    data = fill(tmp_path / "data", range(3))
    (tmp_path / "thesis.tex").touch()
    events: list[Any] = []
    with pytest.raises(FaceganError, match=message):
        preprocess(data, tmp_path / out, settings(), workers=1, on_event=events.append)
    assert events == []


@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_outputs_are_never_written_through_links(link: str, tmp_path: Path) -> None:
    data, out, cache = fill(tmp_path / "data", range(3)), tmp_path / "out", tmp_path / "cache"
    preprocess(data, out, settings(), workers=1)
    cache.mkdir()
    for path in list(out.iterdir()):
        path.rename(cache / path.name).chmod(0o444)
        target = cache / path.name
        path.symlink_to(target) if link == "symbolic" else path.hardlink_to(target)
    before = contents(cache)
    preprocess(fill(tmp_path / "more", range(5)), out, settings(), workers=1)
    assert contents(cache) == before and contents(out) != before
