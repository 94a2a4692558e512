import functools
import itertools
import math
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from facegan.core.errors import FaceganError
from facegan.core.events import Event, Message
from facegan.core.pictures import attempt, grid, save_animation, save_picture


def test_core_loads_without_torch() -> None:
    code = "import facegan.core.pictures, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def flat(value: float) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.full((8, 8, 3), value, np.uint8)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.JPEG", "JPEG"), ("b.c.Png", "PNG")],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_suffix_decides_the_format(name: str, kind: str, channels: int, tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, channels), np.uint8)
    pixels[:, 8:, -1] = 255  # blue beside black; subsampled chroma would blur the edge
    save_picture(pixels, tmp_path / name)
    with Image.open(tmp_path / name) as picture:
        assert picture.format == kind
        read = np.asarray(picture).reshape(pixels.shape).astype(int)
    assert np.abs(read - pixels).max() <= (0 if kind == "PNG" else 16)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.tiff", "a", "png"])
def test_another_suffix_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(FaceganError, match=r"valid: \.png, \.jpg, \.jpeg$"):
        save_picture(flat(5), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@given(count=st.integers(1, 30), channels=st.sampled_from([1, 3]))
def test_a_grid_tiles_images_row_by_row_and_leaves_empty_cells_black(
    count: int, channels: int
) -> None:
    shape = (count, 2, 3, channels)
    images = torch.randint(1, 256, shape, generator=torch.Generator().manual_seed(0)).byte()
    table = grid(images)
    columns = math.ceil(count**0.5)
    rows = math.ceil(count / columns)
    assert 0 <= columns - rows <= 1
    assert table.shape == (rows * 2, columns * 3, channels)
    assert table.dtype == np.uint8
    for number in range(rows * columns):
        top, left = 2 * (number // columns), 3 * (number % columns)
        cell = table[top : top + 2, left : left + 3]
        assert np.array_equal(cell, images[number] if number < count else np.zeros_like(cell))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_a_png_with_the_same_pixels(channels: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    path = tmp_path / "below" / "picture.png"
    save_picture(pixels, path)
    with Image.open(path) as image:
        assert (image.format, image.size) == ("PNG", (7, 5))
        assert image.mode == ("L" if channels == 1 else "RGB")
        assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)
    assert [file.name for file in path.parent.iterdir()] == ["picture.png"]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_an_animation_has_one_frame_per_picture_in_order(count: int, tmp_path: Path) -> None:
    pictures = [tmp_path / f"{number}.png" for number in range(count)]
    for number, picture in enumerate(pictures):
        save_picture(flat(40 * number), picture)
    save_animation(pictures, tmp_path / "animation.gif", milliseconds=200)
    with Image.open(tmp_path / "animation.gif") as animation:
        assert animation.format == "GIF"
        frames = [
            (frame.convert("RGB").getpixel((3, 3)), frame.info["duration"])
            for frame in ImageSequence.Iterator(animation)
        ]
        loops = animation.info.get("loop")
    assert frames == [
        ((40 * n, 40 * n, 40 * n), 800 if n == count - 1 else 200) for n in range(count)
    ]
    assert count == 1 or loops == 0  # forever


def test_an_animation_of_many_large_pictures_is_bounded(tmp_path: Path) -> None:
    """Under a limit of open files, with at most 50 frames, the first and the last included."""
    save_picture(np.zeros((700, 1400, 3), np.uint8), tmp_path / "0.png")
    pictures = [tmp_path / "0.png"]
    for number in range(1, 121):
        pictures.append(tmp_path / f"{number}.png")
        save_picture(flat(2 * number), pictures[-1])
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_files = max(int(path.name) for path in Path("/dev/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files + 10, limits[1]))
    try:
        save_animation(pictures, tmp_path / "animation.gif")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    with Image.open(tmp_path / "animation.gif") as animation:
        assert animation.size == (512, 256)
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(animation)]
    levels = [frame.getpixel((3, 3))[0] for frame in frames]  # type: ignore[index]
    assert len(frames) == 50 and levels[0] == 0 and levels[-1] == 240
    assert levels == sorted(levels)
    assert {b - a for a, b in itertools.pairwise(levels)} == {4, 6}


def test_a_failed_attempt_is_one_message(tmp_path: Path) -> None:
    messages = list[Event]()
    picture = functools.partial(save_picture, flat(1))
    assert attempt(tmp_path / "a.png", picture, messages.append) and not messages
    (tmp_path / "file").touch()
    assert not attempt(tmp_path / "file" / "b.png", picture, messages.append)
    (message,) = messages
    assert isinstance(message, Message) and message.text.startswith("b.png: not written (")
    with pytest.raises(KeyboardInterrupt):
        attempt(tmp_path / "c.png", interrupt, messages.append)


def interrupt(path: Path) -> None:
    raise KeyboardInterrupt


def test_identical_pictures_keep_the_full_duration(tmp_path: Path) -> None:
    save_picture(flat(100), tmp_path / "a.png")
    save_animation([tmp_path / "a.png"] * 3, tmp_path / "animation.gif", milliseconds=200)
    with Image.open(tmp_path / "animation.gif") as animation:
        total = sum(frame.info["duration"] for frame in ImageSequence.Iterator(animation))
    assert total == 200 + 200 + 800


def test_animations_are_deterministic(tmp_path: Path) -> None:
    pictures = [tmp_path / f"{number}.png" for number in range(3)]
    for number, picture in enumerate(pictures):
        save_picture(flat(40 * number), picture)
    for name in ("one.gif", "two.gif"):
        save_animation(pictures, tmp_path / name)
    assert (tmp_path / "one.gif").read_bytes() == (tmp_path / "two.gif").read_bytes()
