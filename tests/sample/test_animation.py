import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from facegan.core.errors import FaceganError
from facegan.sample import animation
from facegan.sample.animation import check_output, resized, write_animation
from facegan.sample.destination import ANIMATIONS

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]


def frames(height: int = 20, width: int = 30, channels: int = 3) -> Iterator[NDArray[np.uint8]]:
    for colour in COLOURS:
        yield np.broadcast_to(np.array(colour[:channels], np.uint8), (height, width, channels))


def read(path: Path) -> list[Image.Image]:
    if path.suffix == ".mp4":
        with av.open(str(path)) as container:
            return [
                Image.fromarray(frame.to_ndarray(format="rgb24"))
                for frame in container.decode(video=0)
            ]
    found = []
    with Image.open(path) as image:
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            found.append(image.convert("RGB"))
    return found


@pytest.mark.parametrize("suffix", ANIMATIONS)
def test_every_frame_is_there_in_order(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"film{suffix}"
    write_animation(frames(), path, 10)
    found = read(path)
    assert [frame.size for frame in found] == [(30, 20)] * 4
    colours = np.array([frame.getpixel((15, 10)) for frame in found])
    assert np.abs(colours - COLOURS).max() < 12


@pytest.mark.parametrize("suffix", ANIMATIONS)
def test_grey_frames_with_odd_sides_are_written(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"film{suffix}"
    write_animation(frames(21, 31, 1), path, 10)
    width, height = read(path)[0].size
    assert (width - 31, height - 21) == ((1, 1) if suffix == ".mp4" else (0, 0))


@pytest.mark.parametrize(("suffix", "once"), [(".gif", None), (".webp", 1)])
def test_an_animation_loops_or_does_not(suffix: str, once: int | None, tmp_path: Path) -> None:
    path = tmp_path / f"film{suffix}"
    for loop, expected in ((True, 0), (False, once)):
        write_animation(frames(), path, 10, loop)
        with Image.open(path) as image:
            assert image.info.get("loop") == expected
            assert image.info.get("duration", 100) == 100


@pytest.mark.parametrize("fps", [50, 40, 30, 29.97, 24, 7])
@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_takes_the_requested_time(suffix: str, fps: float, tmp_path: Path) -> None:
    path, count = tmp_path / f"film{suffix}", 60
    pixels = (np.full((8, 8, 1), 4 * n, np.uint8) for n in range(count))
    write_animation(pixels, path, fps)
    with Image.open(path) as image:
        total = 0
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            image.load()
            total += image.info["duration"]
    assert total == pytest.approx(1000 * count / fps, rel=0.011)  # whole milliseconds of a WebP


def test_a_gif_that_stands_still_for_too_long_is_one_line(tmp_path: Path) -> None:
    still = (np.zeros((8, 8, 1), np.uint8) for _ in range(70))
    with pytest.raises(FaceganError, match=r"film\.gif: stands still for longer .* write an \.mp4"):
        write_animation(still, tmp_path / "film.gif", 0.1)
    assert list(tmp_path.iterdir()) == []


def test_an_mp4_has_the_requested_rate(tmp_path: Path) -> None:
    write_animation(frames(), tmp_path / "film.mp4", 12.5)
    with av.open(str(tmp_path / "film.mp4")) as container:
        assert container.streams.video[0].average_rate == 12.5


def test_too_many_frames_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animation, "MAX_BYTES", 3 * 20 * 30 * 3)
    with pytest.raises(FaceganError, match=r"too many frames of this size; write an \.mp4"):
        write_animation(frames(), tmp_path / "film.gif", 10)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(animation, "MAX_BYTES", 4 * 20 * 30 * 3)
    write_animation(frames(), tmp_path / "film.gif", 10)


@pytest.mark.parametrize(
    ("name", "fps", "reason"),
    [
        ("film.avi", 10, "unknown kind of animation; valid: .gif, .webp, .mp4"),
        ("film", 10, "unknown kind of animation"),
        ("film.gif", 0, "valid: 0.1 to 50"),
        ("film.gif", 60, "valid: 0.1 to 50"),
        ("film.gif", float("nan"), "valid: 0.1 to 50"),
    ],
)
def test_what_cannot_be_written_is_refused(name: str, fps: float, reason: str) -> None:
    with pytest.raises(FaceganError, match=reason):
        check_output(Path(name), fps)


def test_without_an_encoder_an_mp4_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(FaceganError, match=r"needs the extra facegan\[video\]"):
        check_output(Path("film.mp4"), 10)
    check_output(Path("film.gif"), 10)


def test_the_longer_side_gets_the_size() -> None:
    (frame, *_) = frames(20, 40, 1)
    assert resized(frame, 10).shape == (5, 10, 1)
    assert resized(frame, 40) is frame and resized(frame, None) is frame
