"""Images of any tool as a set to be scored."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from facegan.core.errors import FaceganError
from facegan.core.events import Message, Progress
from facegan.evaluate.image_set import MAX_UNUSABLE, ImageSet, read_images
from facegan.photos import discovery
from facegan.photos.inputs import Folder
from facegan.preprocess.packing import pack_inputs
from samples import encoded, fill, idx, noise, settings, tarred, unprivileged, zipped

SHAPES = {1: [32, 32, 1], 3: [32, 32, 3]}
CONTAINERS = ("folder", "nested", "zip", "tar", "tar.gz")
# Formats, and the options without which they lose something.
LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {}, "BMP": {}, "TIFF": {}, "WEBP": {"lossless": True}, "PPM": {},
}  # fmt: skip
LOSSY = ("JPEG", "WEBP-lossy")


def picture(seed: int, channels: int = 3, side: int = 32) -> Image.Image:
    return noise(seed, side, side, "L" if channels == 1 else "RGB")


def pictures(count: int, channels: int = 3) -> dict[str, bytes]:
    return {f"{n:02d}.png": encoded(picture(n, channels)) for n in range(count)}


def contained(folder: Path, container: str, files: dict[str, bytes]) -> Path:
    """The files in a folder or an archive; its path."""
    if container in ("folder", "nested"):
        prefix = "a/b/" if container == "nested" else ""
        return fill(folder, {prefix + name: content for name, content in files.items()})
    contents = (
        zipped(files)
        if container == "zip"
        else tarred(files, "w:gz" if container == "tar.gz" else "w")
    )
    return fill(folder, {f"images.{container}": contents}) / f"images.{container}"


def read(path: Path, channels: int = 3) -> ImageSet:
    return read_images(str(path), SHAPES[channels])


def array(found: ImageSet) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = found.pixels.numpy()
    return pixels


@given(data=st.data(), channels=st.sampled_from([1, 3]), container=st.sampled_from(CONTAINERS))
def test_pixels_are_those_that_preprocess_packs_whatever_the_format_and_container(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, channels: int, container: str
) -> None:
    kinds = data.draw(st.lists(st.sampled_from([*LOSSLESS, *LOSSY]), min_size=8, max_size=12))
    files = {}
    for number, kind in enumerate(kinds):
        image = picture(number, channels)
        if channels == 1 and data.draw(st.booleans()):
            image = image.convert("RGB")  # as many tools store grey
        files[f"{number:02d}.img"] = encoded(
            image, kind.partition("-")[0], **LOSSLESS.get(kind, {})
        )
    folder = tmp_path_factory.mktemp("set")
    found = read(contained(folder, container, files), channels)
    params = settings(channels=channels, crop="none")
    _, packed = pack_inputs(Folder(folder), list(discovery.find(Folder(folder))), params)
    assert np.array_equal(array(found), packed)


def test_an_idx_file_and_a_folder_of_its_images_are_the_same_set(tmp_path: Path) -> None:
    pixels = np.stack([np.asarray(picture(n, 1)) for n in range(8)])
    fill(tmp_path, {"images-idx3-ubyte": idx(pixels)})
    found = read(tmp_path / "images-idx3-ubyte", 1)
    assert np.array_equal(array(found)[..., 0], pixels)
    other = read(fill(tmp_path / "png", pictures(8, 1)), 1)
    assert other.sha256 == found.sha256


def test_a_file_beside_an_archive_is_not_read(tmp_path: Path) -> None:
    skipped = b'{"skipped": {"lost.png": "unreadable"}}'  # by an earlier fetch
    fill(tmp_path, {"source.json": skipped, "a.zip": zipped(pictures(8)), "b.png": b"x"})
    assert len(read(tmp_path / "a.zip").pixels) == 8


def test_what_is_no_image_is_passed_over_and_said(tmp_path: Path) -> None:
    files = {
        "README.txt": b"faces",
        "log.json": b"{}",
        "a.mp4": b"\0\0\0\x18ftypmp42",
        **pictures(8),
    }
    found = read(fill(tmp_path, files))
    assert len(found.pixels) == 8
    assert found.warnings == ["passed over: 2 not-an-image, 1 video"]


def test_lossy_formats_are_scored_with_a_warning(tmp_path: Path) -> None:
    files = {kind: encoded(picture(1), kind) for kind in ("JPEG", "WEBP", "TIFF")} | pictures(9)
    files["lossless"] = encoded(picture(2), "WEBP", lossless=True)
    found = read(fill(tmp_path, files))
    assert len(found.pixels) == 13
    (warning,) = found.warnings
    assert warning.startswith("2 images are JPEG or lossy WebP")


def test_some_grey_images_may_be_in_a_set_in_colour(tmp_path: Path) -> None:
    found = read(fill(tmp_path, pictures(7) | {"grey.png": encoded(picture(9, 1))}))
    assert (array(found)[-1] == np.asarray(picture(9, 1))[..., None]).all()


def half_transparent() -> bytes:
    image = picture(0).convert("RGBA")
    image.putpixel((3, 4), (0, 0, 0, 254))
    return encoded(image)


def test_opaque_alpha_channels_are_ignored(tmp_path: Path) -> None:
    files = {f"{n}.png": encoded(picture(n).convert("RGBA")) for n in range(8)}
    found = read(fill(tmp_path, files))
    assert np.array_equal(array(found)[7], np.asarray(picture(7)))


UNUSABLE = {
    "larger": (encoded(picture(0, side=64)), "64x64 pixels"),
    "not square": (encoded(noise(0, 32, 31)), "32x31 pixels"),
    "transparent": (half_transparent(), "transparent"),
    "truncated": (encoded(picture(0))[:-300], "truncated"),
    "garbage": (b"garbage" * 9, "unreadable"),
    "empty": (b"", "unreadable"),
    "heic": (b"\0\0\0\x18ftypheic", "unsupported-heic"),
    "deep": (encoded(Image.fromarray(np.ones((32, 32), np.float32)), "TIFF"), "unsupported-depth"),
}


@pytest.mark.parametrize(("content", "status"), UNUSABLE.values(), ids=UNUSABLE)
@pytest.mark.parametrize("container", ["folder", "zip"])
def test_an_image_that_cannot_be_scored_is_named_and_nothing_is_scored(
    content: bytes, status: str, container: str, tmp_path: Path
) -> None:
    events: list[Any] = []
    path = contained(tmp_path, container, pictures(8) | {"bad.png": content})
    with pytest.raises(FaceganError) as caught:
        read_images(str(path), SHAPES[3], events.append)
    name = "bad.png" if container == "folder" else "images.zip/bad.png"
    assert str(caught.value) == (
        f"{path}: 1 of 9 images cannot be scored; valid for this reference: 32x32 pixels, RGB, no "
        f"transparency; the first: {name} ({status})"
    )
    texts = [event.text for event in events if isinstance(event, Message)]
    assert texts == [f"{name}: {status}"]


def test_colour_is_refused_by_a_grey_reference(tmp_path: Path) -> None:
    files = pictures(8, 1) | {"bad.png": encoded(picture(0))}
    with pytest.raises(FaceganError, match=r"32x32 pixels, grey, .*: bad.png \(colour\)"):
        read(fill(tmp_path, files), 1)


def test_a_grey_set_is_refused_by_a_reference_in_colour(tmp_path: Path) -> None:
    with pytest.raises(FaceganError, match=r"all 8 images are grey; valid .*: 32x32 pixels, RGB"):
        read(fill(tmp_path, pictures(8, 1)))


def test_reading_ends_after_ten_images_that_cannot_be_scored(tmp_path: Path) -> None:
    events: list[Any] = []
    files = {f"{n:02d}.png": encoded(picture(0, side=16)) for n in range(30)}
    with pytest.raises(FaceganError, match="at least 10 images cannot be scored"):
        read_images(str(fill(tmp_path, files)), SHAPES[3], events.append)
    assert sum(isinstance(event, Message) for event in events) == MAX_UNUSABLE


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FaceganError, match="7 images; scores need at least 8"):
        read(fill(tmp_path, pictures(7)))
    with pytest.raises(FaceganError, match=r"0 images \(1 not-an-image\); scores need"):
        read(fill(tmp_path / "text", {"a.txt": b"text"}))


@pytest.mark.parametrize("name", ["nowhere", "nowhere.zip"])
def test_a_path_that_does_not_exist_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(FaceganError, match=f"{name}: not found; expected a folder or an archive"):
        read(tmp_path / name)


def test_a_corrupt_archive_is_refused(tmp_path: Path) -> None:
    content = zipped(pictures(8))
    fill(tmp_path, {"a.zip": content[: len(content) // 2]})
    with pytest.raises(FaceganError, match=r"a\.zip: 1 of 1 images cannot be scored"):
        read(tmp_path / "a.zip")


def test_an_image_without_permission_is_refused(tmp_path: Path) -> None:
    folder = fill(tmp_path / "set", pictures(9))
    (folder / "03.png").chmod(0)
    with unprivileged(folder), pytest.raises(FaceganError, match=r"03.png \(no-permission\)"):
        read(folder)


def test_progress_is_in_inputs(tmp_path: Path) -> None:
    events: list[Any] = []
    read_images(str(fill(tmp_path, pictures(9) | {"a.txt": b"x"})), SHAPES[3], events.append)
    done = [(event.done, event.total) for event in events if isinstance(event, Progress)]
    assert done == [(number, 10) for number in range(1, 11)]


@pytest.mark.usefixtures("proxy")
def test_images_in_a_bucket_are_those_of_the_folder(buckets: Path, tmp_path: Path) -> None:
    files = pictures(9)
    fill(
        buckets / "samples",
        {"run/a.zip": zipped(files), **{f"png/{k}": v for k, v in files.items()}},
    )
    expected = read(fill(tmp_path, files)).sha256
    for address in ("s3://samples/png", "s3://samples/run", "s3://samples/run/a.zip"):
        assert read_images(address, SHAPES[3]).sha256 == expected


def test_of_several_processes_one_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    fill(tmp_path, pictures(8))
    for rank, count in (("0", 8), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        events: list[Any] = []
        read_images(str(tmp_path), SHAPES[3], events.append)
        assert len(events) == count
