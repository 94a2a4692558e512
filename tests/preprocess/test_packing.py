import hashlib
import io
import struct
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from facegan.core.errors import FaceganError
from facegan.params import Preprocess
from facegan.photos.decoding import Decoded
from facegan.photos.inputs import Folder, Input
from facegan.preprocess.packing import Row, crop_box, pack_inputs, resize
from samples import ORIENTATION, encoded, fill, natural, noise, settings, turned

FACES = Path(__file__).parents[3] / "shared" / "faces" / "celeba-10k.zip"
NOWHERE = Folder(Path("/nonexistent"))
BOXES = (108, 140, 148, 160, 178)
CROPS = ("center", *(f"box-{side}" for side in BOXES), "none")
SIZES = (28, 32, 64, 128, 256)
RESAMPLING = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}


def packed(content: bytes, name: str = "a.jpg", **params: Any) -> tuple[Row, NDArray[np.uint8]]:
    """The row of one input, and its pixels: (resolution, resolution, channels) or none."""
    inputs = [Input(name, name, content=content)]
    (row,), pixels = pack_inputs(NOWHERE, inputs, settings(**params))
    return row, pixels[0] if len(pixels) else pixels


def by_hand(image: Image.Image, params: Preprocess) -> NDArray[np.uint8]:
    """The same with Pillow: convert, crop, resize."""
    image = image.convert("L" if params.channels == 1 else "RGB")
    if params.crop != "none":
        side = min(image.size) if params.crop == "center" else int(params.crop[4:])
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    size = params.resolution
    pixels = np.asarray(image.resize((size, size), RESAMPLING[params.resample]))
    return pixels.reshape(size, size, params.channels)


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel", RESAMPLING)
def test_photographs_are_cropped_and_resized_as_by_pillow(
    crop: str, size: int, kernel: str
) -> None:
    image = noise(0, 219, 179)
    chosen: dict[str, Any] = {"crop": crop, "resolution": size, "resample": kernel}
    _, pixels = packed(encoded(image, compress_level=1), **chosen)
    assert np.array_equal(pixels, by_hand(image, settings(**chosen)))


@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    crop=st.sampled_from(["center", "none"]),
    size=st.sampled_from([28, 32, 64]),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_photographs_of_any_size_are_cropped_and_resized_as_by_pillow(
    width: int, height: int, crop: str, size: int, channels: int, seed: int
) -> None:
    image = noise(seed, width, height)
    chosen: dict[str, Any] = {"crop": crop, "resolution": size, "channels": channels}
    row, pixels = packed(encoded(image), **chosen)
    assert (row.width, row.height, row.status) == (width, height, None)
    assert np.array_equal(pixels, by_hand(image, settings(**chosen)))


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("size", [32, 128])
def test_a_jpeg_decoded_at_full_size_equals_pillows(crop: str, size: int) -> None:
    content = encoded(natural(0, 400, 500), "JPEG")
    chosen: dict[str, Any] = {"crop": crop, "resolution": size, "jpeg": "full"}
    with Image.open(io.BytesIO(content)) as image:
        expected = by_hand(image, settings(**chosen))
    assert np.array_equal(packed(content, **chosen)[1], expected)


@cache
def photograph(width: int, height: int) -> bytes:
    return encoded(natural(1, width, height), "JPEG", quality=90)


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("size", [28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(178, 218), (509, 601), (768, 1024)])
def test_a_jpeg_decoded_at_a_reduced_size_differs_by_a_few_levels(
    crop: str, size: int, channels: int, shape: tuple[int, int]
) -> None:
    content = photograph(*shape)
    chosen: dict[str, Any] = {"crop": crop, "resolution": size, "channels": channels}
    full = packed(content, jpeg="full", **chosen)[1].astype(float)
    scaled = packed(content, jpeg="scaled", **chosen)[1].astype(float)
    # For an image more detailed than photographs; a shift by half a pixel gives 6.
    assert np.abs(full - scaled).mean() < 4
    smallest = min(shape) if crop in ("center", "none") else int(crop[4:])
    # With a reduction, the images must differ.
    assert (full != scaled).any() or smallest < 8 * size


@pytest.mark.faces
@pytest.mark.skipif(not FACES.exists(), reason="no photographs in ../shared/faces")
@pytest.mark.parametrize("kernel", RESAMPLING)
@pytest.mark.parametrize("size", [28, 32])
def test_faces_decoded_at_a_reduced_size_differ_by_about_a_level(kernel: str, size: int) -> None:
    errors = []
    with zipfile.ZipFile(FACES) as archive:
        for name in [name for name in archive.namelist() if name.endswith(".jpg")][::400]:
            content = archive.read(name)
            full, scaled = (
                packed(content, resolution=size, resample=kernel, jpeg=jpeg)[1].astype(float)
                for jpeg in ("full", "scaled")
            )
            errors.append(np.abs(full - scaled).mean())
    assert len(errors) == 25
    # The worst case: sharp images, reduced to half of 89 pixels, little more than needed.
    assert np.mean(errors) < 1.5


@given(
    width=st.integers(28, 700),
    height=st.integers(28, 700),
    crop=st.sampled_from(CROPS),
    size=st.sampled_from(SIZES),
    orientation=st.integers(1, 8),
)
def test_the_crop_is_decoded_at_no_less_than_the_resolution(
    width: int, height: int, crop: str, size: int, orientation: int
) -> None:
    content = encoded(Image.new("L", (width, height)), "JPEG", exif=turned(orientation))
    chosen = settings(crop=crop, resolution=size)
    seen: list[Decoded] = []

    def spy(decoded: Decoded, params: Preprocess, path: str) -> Image.Image:
        seen.append(decoded)
        return resize(decoded, params, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("facegan.preprocess.packing.resize", spy)
        try:
            pack_inputs(NOWHERE, [Input("a.jpg", "a.jpg", content=content)], chosen)
        except FaceganError:
            assert crop.startswith("box") and min(width, height) < int(crop[4:])
            return
    (decoded,) = seen
    left, top, right, bottom = crop_box(decoded.width, decoded.height, crop, "")
    across = (right - left) * decoded.image.width / decoded.width
    down = (bottom - top) * decoded.image.height / decoded.height
    if decoded.image.size != (decoded.width, decoded.height):
        assert min(across, down) >= size
    else:
        assert (across, down) == (right - left, bottom - top)


@given(
    width=st.integers(1, 999), height=st.integers(1, 999), crop=st.sampled_from(["center", "none"])
)
def test_the_crop_is_centred(width: int, height: int, crop: str) -> None:
    left, top, right, bottom = crop_box(width, height, crop, "")
    if crop == "none":
        assert (left, top, right, bottom) == (0, 0, width, height)
    else:
        assert right - left == bottom - top == min(width, height)
        assert 0 <= width - right - left <= 1 and 0 <= height - bottom - top <= 1


def test_crop_boxes_on_celeba_are_those_of_the_literature() -> None:
    # Most papers crop CelebA's 178x218 at 20 pixels from the left and 40 from the top, within one.
    assert crop_box(178, 218, "box-140", "") == (19, 39, 159, 179)
    assert crop_box(178, 218, "box-148", "") == (15, 35, 163, 183)


@pytest.mark.parametrize("side", BOXES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_photograph_smaller_than_the_crop_box_is_an_error_with_two_remedies(
    side: int, kind: str
) -> None:
    for width, height in ((side - 1, side + 9), (side + 9, side - 1)):
        content = encoded(Image.new("L", (width, height)), kind)
        with pytest.raises(FaceganError) as caught:
            packed(content, "below/a\nb.jpg", crop=f"box-{side}")
        assert str(caught.value) == (
            f"'below/a\\nb.jpg': {width}x{height} pixels, smaller than "
            f"preprocess.crop: box-{side}; exclude such photographs with "
            f"preprocess.min_side: {side}, or choose another crop"
        )
    exact = encoded(Image.new("L", (side, side)), kind)
    assert packed(exact, crop=f"box-{side}", resolution=28)[0].status is None


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_min_side_is_checked_before_the_crop_box(crop: str, kind: str) -> None:
    for size in ((177, 500), (500, 177)):
        content = encoded(Image.new("L", size), kind)
        row, pixels = packed(content, crop=crop, min_side=178)
        assert (row.status, row.width, row.height) == ("too-small", *size)
        assert row.sha256 == hashlib.sha256(content).hexdigest()
        assert len(pixels) == 0
    row, pixels = packed(encoded(Image.new("L", (178, 178)), kind), crop=crop, min_side=178)
    assert row.status is None and len(pixels) == 32


def test_photographs_are_measured_and_cropped_after_rotation() -> None:
    image = natural(0, 300, 200)
    content = encoded(image, "JPEG", exif=turned(6), quality=95)
    row, pixels = packed(content, jpeg="full", crop="none")
    assert (row.width, row.height) == (200, 300)
    with Image.open(io.BytesIO(content)) as opened:
        upright = opened.transpose(Image.Transpose.ROTATE_270)
    assert np.array_equal(pixels, by_hand(upright, settings(crop="none")))


def test_transparency_uses_the_background_of_the_params() -> None:
    clear = encoded(Image.new("RGBA", (40, 40)))
    for background in (0, 77, 255):
        assert (packed(clear, background=background)[1] == background).all()


def test_raw_pixels_are_packed() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    inputs = [Input("a#0", "a", content=pixels.tobytes(), shape=(28, 28))]
    (row,), (image,) = pack_inputs(NOWHERE, inputs, settings(resolution=28, channels=1))
    assert np.array_equal(image[:, :, 0], pixels)
    assert row.sha256 == hashlib.sha256(pixels.tobytes()).hexdigest()


def test_every_input_has_a_row_and_every_usable_one_has_pixels(tmp_path: Path) -> None:
    files = {
        "a.png": encoded(noise(1, 30, 20)),
        "b.jpg": b"text",
        "c.txt": b"text",
        "d.png": encoded(noise(2, 9, 40)),
        "e.png": encoded(noise(3, 28, 28)),
    }
    root = Folder(fill(tmp_path / "data", files))
    inputs = [Input(name, name) for name in files]
    inputs += [Input("gone.jpg", "gone.jpg"), Input("l.jpg", "l.jpg", status="link")]
    rows, pixels = pack_inputs(root, inputs, settings(min_side=10))
    found = [(row.path, row.sha256, row.width, row.height, row.status) for row in rows]
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert found == [
        ("a.png", digests["a.png"], 30, 20, None),
        ("b.jpg", digests["b.jpg"], 0, 0, "unreadable"),
        ("c.txt", digests["c.txt"], 0, 0, "not-an-image"),
        ("d.png", digests["d.png"], 9, 40, "too-small"),
        ("e.png", digests["e.png"], 28, 28, None),
        ("gone.jpg", "", 0, 0, "vanished"),
        ("l.jpg", "", 0, 0, "link"),
    ]
    assert pixels.shape == (2, 32, 32, 3) and pixels.dtype == np.uint8
    for image, seed, size in zip(pixels, (1, 3), ((30, 20), (28, 28)), strict=True):
        assert np.array_equal(image, by_hand(noise(seed, *size), settings()))


def test_without_usable_inputs_there_are_no_pixels() -> None:
    for inputs in ([], [Input("a.jpg", "a.jpg", content=b"")]):
        rows, pixels = pack_inputs(NOWHERE, inputs, settings())
        assert len(rows) == len(inputs)
        assert pixels.shape == (0, 32, 32, 3)


def test_the_digest_depends_only_on_the_pixels() -> None:
    image = natural(0, 60, 50)
    plain = encoded(image, "JPEG")
    commented = plain[:2] + b"\xff\xfe\x00\x07hello" + plain[2:]
    exif = encoded(image, "JPEG", exif=turned(1))
    lossless = [encoded(image, kind) for kind in ("PNG", "BMP", "TIFF")]
    digests = [packed(content)[0].digest for content in (plain, commented, exif)]
    assert len(set(digests)) == 1
    assert len({packed(content)[0].digest for content in lossless}) == 1
    assert packed(lossless[0])[0].digest != digests[0]
    assert packed(encoded(natural(1, 60, 50)))[0].digest not in digests


def test_the_perceptual_hash_is_computed_only_if_needed() -> None:
    content = encoded(natural(0, 64, 64))
    assert packed(content)[0].perceptual == 0
    perceptual = packed(content, near_duplicates=4)[0].perceptual
    assert 0 < perceptual < 2**64
    copy = encoded(natural(0, 64, 64).resize((60, 60)), "JPEG", quality=80)
    assert (packed(copy, near_duplicates=4)[0].perceptual ^ perceptual).bit_count() <= 4
    other = packed(encoded(natural(1, 64, 64)), near_duplicates=4)[0].perceptual
    assert (other ^ perceptual).bit_count() > 12


def test_odd_metadata_causes_no_warning() -> None:
    # Pillow warns about a text longer than the file; pytest turns warnings into errors.
    entries = [
        struct.pack("<HHI4s", ORIENTATION, 3, 1, b"\6\0\0\0"),
        struct.pack("<HHII", 0x0131, 2, 70_000, 50),
    ]
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + b"".join(entries) + bytes(9)
    row, _ = packed(encoded(natural(0, 60, 50), "JPEG", exif=exif))
    assert (row.status, row.width, row.height) == (None, 50, 60)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("shape", [(1007, 1001), (1001, 1008), (1008, 1008)])
def test_a_reduced_rotated_jpeg_is_aligned_with_the_full_one(
    orientation: int, shape: tuple[int, int]
) -> None:
    # At 1/8, 1001 pixels become 126; after mirroring, the partial column comes first.
    smooth = noise(0, 6, 6).resize(shape, Image.Resampling.BICUBIC)
    content = encoded(smooth, "JPEG", quality=95, exif=turned(orientation))
    full, scaled = (
        packed(content, resolution=28, crop="none", jpeg=jpeg)[1].astype(float)
        for jpeg in ("full", "scaled")
    )
    assert 0 < np.abs(full - scaled).mean() < 0.5
