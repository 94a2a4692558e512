import json
import resource
from pathlib import Path

import psutil
import pytest
from PIL import Image

from conftest import START
from facegan.core.errors import FaceganError
from facegan.sample.film import HOLD, Film


def training(folder: Path, pictures: int) -> Path:
    """A training whose n-th picture has grey level n % 256; every second interval is scored."""
    (folder / "samples").mkdir(parents=True)
    lines = [START]
    for n in range(pictures):
        name = f"samples/{n}.png"
        Image.new("L", (32, 32), n % 256).save(folder / name)
        seen = 10**12 * n
        lines.append({"event": "samples", "images_seen": seen, "picture": name, "diversity": 1.0})
        if n % 2:
            lines.append({"event": "score", "images_seen": seen, "quick_fid": 500.0 / n})
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_film_has_evenly_spaced_pictures_and_holds_the_last(tmp_path: Path) -> None:
    film = Film(training(tmp_path / "t", 9), 5, False, None)
    levels = [int(frame[0, 0, 0]) for frame in film.frames()]
    assert levels == [0, 2, 4, 6, 8] + [8] * (HOLD - 1)


def test_all_frames_have_one_shape_with_a_caption(tmp_path: Path) -> None:
    film = Film(training(tmp_path / "t", 9), 100, True, 64)
    (shape,) = {frame.shape for frame in film.frames()}
    assert shape[1:] == (256, 1) and shape[0] > 64
    assert film.pictures[8][1] == "8,000,000,000,000 images seen, quick FID 71.43"
    assert film.pictures[7][1] == "7,000,000,000,000 images seen, quick FID 71.43"  # its own score


def test_a_film_needs_few_open_files(tmp_path: Path) -> None:
    training(tmp_path / "t", 300)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (psutil.Process().num_fds() + 20, hard))
    try:
        assert len(list(Film(tmp_path / "t", 300, False, None).frames())) == 300 + HOLD - 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_pictures_that_are_gone_are_left_out(tmp_path: Path) -> None:
    folder = training(tmp_path / "t", 4)
    (folder / "samples/1.png").unlink()
    assert [name for name, _ in Film(folder, 9, False, None).pictures] == [
        f"samples/{n}.png" for n in (0, 2, 3)
    ]
    for n in (0, 2, 3):
        (folder / f"samples/{n}.png").unlink()
    with pytest.raises(FaceganError, match="no sample pictures; expected a folder of train"):
        Film(folder, 9, False, None)


@pytest.mark.parametrize("content", [b"", b"x", None])
def test_a_damaged_picture_is_named(content: bytes | None, tmp_path: Path) -> None:
    training(tmp_path, 3)
    path = tmp_path / "samples" / "2.png"
    path.write_bytes(path.read_bytes()[:60] if content is None else content)
    with pytest.raises(FaceganError, match=r"2\.png: cannot be read"):
        list(Film(tmp_path, 9, caption=False, size=None).frames())


@pytest.mark.parametrize("size", [(16, 32), (20_000, 20_000)])
def test_a_picture_of_another_size_is_named(size: tuple[int, int], tmp_path: Path) -> None:
    training(tmp_path, 3)
    Image.new("1", size).save(tmp_path / "samples" / "2.png")
    with pytest.raises(FaceganError, match=r"2\.png: .*pixels"):
        list(Film(tmp_path, 9, caption=False, size=None).frames())


def test_pictures_that_another_program_made_smaller_keep_their_colours(tmp_path: Path) -> None:
    training(tmp_path, 3)
    path = tmp_path / "samples" / "1.png"
    Image.new("RGB", (32, 32), (10, 200, 30)).quantize(4).save(path)
    frame = list(Film(tmp_path, 9, caption=False, size=None).frames())[1]
    assert frame[5, 5].tolist() == [10, 200, 30]


@pytest.mark.parametrize("picture", [None, 5, ["samples/1.png"]])
def test_an_entry_that_names_no_picture_is_left_out(picture: object, tmp_path: Path) -> None:
    training(tmp_path, 3)
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    lines[1]["picture"] = picture
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert len(Film(tmp_path, 9, caption=False, size=None).pictures) == 2


def test_a_folder_without_a_history_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FaceganError, match=r"history\.jsonl: cannot read the training history"):
        Film(tmp_path, 9, False, None)
