import io
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from facegan.core.errors import FaceganError
from facegan.photos.decoding import MAX_PIXELS, Decoded, decode
from facegan.photos.inputs import Input, Unusable
from samples import encoded, natural, noise, png, png_chunk, turned
from tiffs import EXTRA, SHORT, tiff

PICTURE = natural(0, 80, 60)
# As Pillow writes them.
MODES = {
    "JPEG": ("L", "RGB", "CMYK", "YCbCr"),
    "PNG": ("1", "L", "P", "RGB"),
    "TIFF": ("1", "L", "P", "RGB", "CMYK"),
    "BMP": ("1", "L", "P", "RGB"),
}
# EXIF orientation -> how an array (H, W, C) is rotated upright (CIPA DC-008, 4.6.4).
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: x.swapaxes(0, 1)[::-1],
}


def decoded(content: bytes, channels: int = 3, name: str = "a.jpg", **options: Any) -> Decoded:
    options = {"background": 255} | options
    return decode(Input(name, name), content, channels, **options)


def array(content: bytes, channels: int = 3, **options: Any) -> NDArray[np.uint8]:
    found = decoded(content, channels, **options)
    assert found.image.mode == ("L" if channels == 1 else "RGB")
    assert found.image.size == (found.width, found.height)
    return np.asarray(found.image)


def status(content: bytes, name: str = "a.jpg", channels: int = 3) -> str:
    with pytest.raises(Unusable) as caught:
        decoded(content, channels, name)
    return str(caught.value)


def opened(content: bytes, mode: str) -> NDArray[np.uint8]:
    """A file as decoded and converted by Pillow."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert(mode))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_every_format_is_decoded_whatever_the_suffix(kind: str, channels: int, mode: str) -> None:
    content = encoded(PICTURE, kind)
    expected = opened(content, mode)
    for name in ("x.jpg", "x.png", "x", "x.txt"):
        assert np.array_equal(array(content, channels, name=name), expected)


@pytest.mark.parametrize(
    ("kind", "original"), [(kind, mode) for kind, modes in MODES.items() for mode in modes]
)
@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_every_mode_is_converted_as_pillow_does(
    kind: str, original: str, channels: int, mode: str
) -> None:
    content = encoded(PICTURE.convert(original), kind)
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode in (original, "RGB")
    assert np.array_equal(array(content, channels), opened(content, mode))


def test_a_tiff_in_lab_becomes_grey() -> None:
    content = encoded(PICTURE.convert("LAB"), "TIFF")
    expected = Image.fromarray(opened(content, "RGB")).convert("L")
    assert np.array_equal(array(content, 1), np.asarray(expected))


def test_a_cmyk_jpeg_from_photoshop_is_not_inverted() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    content = encoded(red, "JPEG", quality=100)  # with Adobe's marker, levels are inverted
    assert b"Adobe" in content
    assert np.abs(array(content).astype(int) - (255, 0, 0)).max() < 8


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_of_16_bits_keeps_its_high_byte(kind: str, channels: int) -> None:
    # Pillow's own conversion makes everything above 255 white.
    levels = np.arange(0, 2**16, 17)[: 62 * 62].reshape(62, 62).astype(np.uint16)
    pixels = array(encoded(Image.fromarray(levels), kind), channels)
    expected = (levels >> 8).astype(np.uint8)
    assert len(np.unique(expected)) == 256
    assert np.array_equal(pixels if channels == 1 else pixels[:, :, 0], expected)
    if channels == 3:
        assert (pixels == expected[:, :, None]).all()


@pytest.mark.parametrize(
    ("colour", "bands"), [(0, 1), (2, 3), (4, 2), (6, 4)], ids=["grey", "RGB", "LA", "RGBA"]
)
def test_a_png_of_16_bits_keeps_its_high_byte(colour: int, bands: int) -> None:
    levels = np.random.default_rng(0).integers(0, 2**16, (20, 30, bands), np.uint16)
    if bands in (2, 4):
        levels[:, :, -1] = 65535
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    upper = (levels >> 8).astype(np.uint8)[:, :, : 1 if bands < 3 else 3]
    expected = np.broadcast_to(upper, (20, 30, 3))
    assert np.array_equal(array(png((30, 20), 16, colour, rows)), expected)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_images_without_a_defined_white_are_named(mode: str) -> None:
    content = encoded(PICTURE.convert("L").convert(mode), "TIFF")
    assert status(content, "a.tif") == "unsupported-depth"


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("background", [0, 100, 255])
@pytest.mark.parametrize("channels", [1, 3])
def test_transparency_is_composited_over_the_background(
    mode: str, kind: str, background: int, channels: int
) -> None:
    image = noise(1, 40, 30, mode)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    pixels = array(encoded(image, kind, **options), channels, background=background)
    # Composited by hand, in floating point.
    rgba = np.asarray(image.convert("RGBA")).astype(float)
    alpha = rgba[:, :, 3:] / 255
    blended = rgba[:, :, :3] * alpha + background * (1 - alpha)
    if channels == 1:  # ITU-R 601-2
        blended = blended @ (0.299, 0.587, 0.114)
    assert np.abs(pixels - blended).max() < 2


def test_compositing_equals_pillows() -> None:
    image = noise(2, 40, 30, "RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", image.size, (90, 90, 90, 255)), image)
    pixels = array(encoded(image), background=90)
    assert np.array_equal(pixels, np.asarray(expected.convert("RGB")))


@pytest.mark.parametrize(("mode", "kind"), [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP")])
@pytest.mark.parametrize("channels", [1, 3])
def test_without_a_background_transparent_pixels_are_refused_and_opaque_ones_are_not(
    mode: str, kind: str, channels: int
) -> None:
    image, options = PICTURE.convert(mode), {"lossless": True} if kind == "WEBP" else {}
    opaque = encoded(image, kind, **options)
    expected = array(opaque, channels, background=255)
    assert np.array_equal(array(opaque, channels, background=None), expected)
    alpha = image.getchannel("A")
    alpha.putpixel((5, 6), 254)
    image.putalpha(alpha)
    with pytest.raises(Unusable, match="transparent"):
        decoded(encoded(image, kind, **options), channels, background=None)


def test_a_transparent_palette_is_composited_over_the_background() -> None:
    rows = (b"\0" + bytes([0, 1, 2, 3] * 5)) * 20
    palette = png_chunk(b"PLTE", bytes([200, 0, 0, 0, 200, 0, 0, 0, 200, 9, 9, 9]))
    content = png((20, 20), 8, 3, rows, palette, png_chunk(b"tRNS", bytes([0, 255, 51])))
    expected = [[100, 100, 100], [0, 200, 0], [80, 80, 120], [9, 9, 9]]  # 51 is a fifth
    assert array(content, background=100)[0, :4].tolist() == expected


@pytest.mark.parametrize(
    ("colour", "depth", "rows", "transparent", "expected"),
    [
        (0, 8, bytes([7, 8, 7, 0]), (7,), [[100] * 3, [8] * 3, [100] * 3, [0] * 3]),
        (0, 1, bytes([0b01010101]), (1,), [[0] * 3, [100] * 3, [0] * 3, [100] * 3]),
        (2, 8, bytes([7, 8, 9] + [7] * 9), (7, 8, 9), [[100] * 3, [7] * 3, [7] * 3, [7] * 3]),
    ],
    ids=["L", "1", "RGB"],
)
def test_a_transparent_colour_key_is_composited_over_the_background(
    colour: int, depth: int, rows: bytes, transparent: tuple[int, ...], expected: list[list[int]]
) -> None:
    chunk = png_chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent))
    content = png((4, 1), depth, colour, b"\0" + rows, chunk)
    assert array(content, background=100)[0].tolist() == expected


def test_a_transparent_gif_is_composited_over_the_background() -> None:
    image = Image.new("P", (20, 20), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((3, 4), 0)
    pixels = array(encoded(image, "GIF", transparency=0), background=70)
    assert pixels[4, 3].tolist() == [70, 70, 70]
    assert pixels[0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_photographs_are_rotated_upright(kind: str, mode: str, orientation: int) -> None:
    image = PICTURE.convert(mode)
    content = encoded(image, kind, exif=turned(orientation))
    plain = opened(encoded(image, kind), "RGB")
    found = decoded(content)
    expected = UPRIGHT[orientation](plain)
    assert (found.height, found.width) == expected.shape[:2]
    assert np.array_equal(np.asarray(found.image), expected)


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_images_of_16_bits_or_with_a_palette_are_rotated_upright(orientation: int) -> None:
    deep = Image.fromarray(np.random.default_rng(0).integers(0, 2**16, (20, 30), np.uint16))
    palette = PICTURE.quantize(20)
    for image, plain in (
        (deep, np.asarray(deep)[:, :, None].repeat(3, axis=2) >> 8),
        (palette, np.asarray(palette.convert("RGB"))),
    ):
        pixels = array(encoded(image, "PNG", exif=turned(orientation)))
        assert np.array_equal(pixels, UPRIGHT[orientation](plain))


@pytest.mark.parametrize("orientation", [0, 9, 2**16 - 1])
def test_an_invalid_orientation_is_ignored(orientation: int) -> None:
    content = encoded(PICTURE, "JPEG", exif=turned(orientation))
    assert np.array_equal(array(content), opened(content, "RGB"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.filterwarnings("ignore")  # as in `packing`: Pillow warns about odd metadata
@pytest.mark.parametrize("exif", [b"garbage", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\x05"])
def test_corrupt_exif_is_ignored(kind: str, exif: bytes) -> None:
    content = encoded(PICTURE, kind, exif=b"Exif\0\0" + exif if kind == "JPEG" else exif)
    assert np.array_equal(array(content), opened(encoded(PICTURE, kind), "RGB"))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_is_used(kind: str) -> None:
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "lime", "blue")]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(content)) as image:
        assert image.n_frames == 3  # type: ignore[attr-defined]
    assert np.abs(array(content).astype(int) - (255, 0, 0)).max() < 3


def test_the_first_picture_of_an_mpo_is_used() -> None:
    frames = [natural(seed, 64, 64) for seed in range(2)]
    content = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert np.array_equal(array(content), opened(encoded(frames[0], "JPEG"), "RGB"))
    assert decoded(content, shrink=lambda width, height: 0.5).image.size == (32, 32)


@given(
    width=st.integers(16, 400),
    height=st.integers(16, 400),
    scale=st.floats(0.01, 1.5),
    orientation=st.integers(1, 8),
)
def test_a_jpeg_is_decoded_at_no_less_than_the_scale(
    width: int, height: int, scale: float, orientation: int
) -> None:
    content = encoded(Image.new("L", (width, height)), "JPEG", exif=turned(orientation))
    calls = []

    def shrink(width: int, height: int) -> float:
        calls.append((width, height))
        return scale

    found = decoded(content, shrink=shrink)
    assert calls == [(width, height)]
    upright = (width, height) if orientation < 5 else (height, width)
    assert (found.width, found.height) == upright
    sizes = {d: tuple(-(-side // d) for side in upright) for d in (1, 2, 4, 8)}
    (used,) = (divisor for divisor, size in sizes.items() if found.image.size == size)
    assert used == 1 or used <= 1 / scale
    if min(width, height) * scale >= 16:  # rounding is small
        assert used == 8 or used > 1 / scale / 2.2


def test_a_reduced_photograph_is_rotated_although_it_became_square() -> None:
    # At 1/8, 1007 and 1001 pixels both become 126.
    content = encoded(Image.new("L", (1007, 1001)), "JPEG", exif=turned(6))
    found = decoded(content, shrink=lambda width, height: 0.1)
    assert found.image.size == (126, 126)
    assert (found.width, found.height) == (1001, 1007)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_only_jpegs_are_decoded_at_a_reduced_size(kind: str) -> None:
    found = decoded(encoded(PICTURE, kind), shrink=lambda width, height: 0.1)
    assert found.image.size == (found.width, found.height) == PICTURE.size


def test_raw_pixels_become_grey_or_rgb() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3), np.uint8)
    item = Input("a#0", "a", shape=(4, 3))
    grey, colour = (decode(item, pixels.tobytes(), channels, 255) for channels in (1, 3))
    assert (grey.width, grey.height, grey.image.mode) == (3, 4, "L")
    assert np.array_equal(np.asarray(grey.image), pixels)
    assert np.array_equal(np.asarray(colour.image), pixels[:, :, None].repeat(3, axis=2))


@pytest.mark.parametrize("content", [b"", b"text", b"\xff\xd8\xff", b"GIF89a"], ids=repr)
def test_a_file_that_is_not_an_image_is_unreadable_if_its_suffix_says_image(content: bytes) -> None:
    for name in ("a.jpg", "below/A.JPEG", "a.webp", "a.zip/a.png", ".jpg"):
        assert status(content, name) == "unreadable"
    for name in ("notes.txt", "noextension", "a.jpg/notes", "__MACOSX/._a.jpg", "._a.jpg"):
        assert status(content, name) == "not-an-image"


@pytest.mark.parametrize("tenth", range(10))
def test_a_truncated_jpeg_gets_a_status(tenth: int) -> None:
    content = encoded(natural(1, 178, 218), "JPEG", quality=90)
    length = len(content) * tenth // 10
    found = status(content[:length])
    # libjpeg recognises a JPEG only after its tables.
    assert found == "truncated" if length > 700 else found in ("truncated", "unreadable")


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_images_of_other_formats_get_a_status(kind: str, share: float) -> None:
    content = encoded(natural(1, 90, 80), kind)
    assert status(content[: int(len(content) * share)]) in ("truncated", "unreadable")


def test_a_png_of_60000x60000_pixels_is_never_inflated() -> None:
    content = png((60_000, 60_000), 8, 2, bytes(10**6))
    assert status(content, "a.png") == "bomb"


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP"])
def test_the_size_limit_is_a_number_of_pixels(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(Image.new("L", (40, 50)), kind)
    monkeypatch.setattr("facegan.photos.decoding.MAX_PIXELS", 2000)
    assert array(content).shape == (50, 40, 3)
    monkeypatch.setattr("facegan.photos.decoding.MAX_PIXELS", 1999)
    assert status(content) == "bomb"
    assert MAX_PIXELS == 2**28


RANDOM_TEXT = np.random.default_rng(0).bytes(400_000).hex().encode()
METADATA = {
    "bombs": [png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**21)))] * 40,
    "bomb": [png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**25)))],
    "text": [png_chunk(b"tEXt", b"Comment\0" + bytes(2**25))],
    "XMP": [png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(RANDOM_TEXT * 3))],
    "profile": [png_chunk(b"iCCP", b"press\0\0" + zlib.compress(RANDOM_TEXT * 3))],
    "profile bomb": [png_chunk(b"iCCP", b"press\0\0" + zlib.compress(bytes(2**25)))],
}


@pytest.mark.parametrize("chunks", METADATA.values(), ids=METADATA)
def test_a_png_with_large_metadata_is_decoded(chunks: list[bytes]) -> None:
    content = png((4, 1), 8, 0, b"\0\1\2\3\4", *chunks)
    tracemalloc.start()
    pixels = array(content, 1, name="a.png")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pixels.tolist() == [[1, 2, 3, 4]]
    assert peak < 2**28


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_orientation_in_xmp_counts_beside_a_bomb(kind: str) -> None:
    xmp = b'<x:xmpmeta xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    if kind == "JPEG":
        content = encoded(PICTURE, "JPEG", xmp=xmp)
    else:
        chunk = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
        plain = encoded(PICTURE)
        content = plain[:33] + chunk + METADATA["bomb"][0] + plain[33:]
    assert (decoded(content).width, decoded(content).height) == PICTURE.size[::-1]


@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_that_lacks_only_its_end_marker_is_whole(missing: int) -> None:
    content = encoded(natural(1, 90, 80), "JPEG")
    assert np.array_equal(array(content[:-missing]), array(content))


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("missing", [3, 4, 6, 50])
def test_a_jpeg_that_lacks_a_byte_of_its_data_is_truncated(
    missing: int, options: dict[str, bool]
) -> None:
    assert status(encoded(natural(1, 90, 80), "JPEG", **options)[:-missing]) == "truncated"


def test_photographs_of_200_megapixels_are_decoded_at_a_reduced_scale() -> None:
    content = encoded(Image.new("L", (16_320, 12_240), 77), "JPEG")
    found = decoded(content, channels=1, shrink=lambda width, height: 0.01)
    assert (found.width, found.height, found.reduction) == (16_320, 12_240, 8)
    assert np.asarray(found.image).max() == 77


def test_the_limit_of_pixels_is_of_those_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facegan.photos.decoding.MAX_PIXELS", 400)
    content = encoded(Image.new("L", (80, 80)), "JPEG")
    assert decoded(content, shrink=lambda width, height: 0.2).image.size == (20, 20)
    assert status(content) == "bomb"
    progressive = encoded(Image.new("L", (80, 80)), "JPEG", progressive=True)
    with pytest.raises(Unusable, match="bomb"):
        decoded(progressive, shrink=lambda width, height: 0.2)


@pytest.mark.parametrize("largest", [1, 255, 1023, 4095, 65535])
@pytest.mark.parametrize("is_binary", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_pgm_and_ppm_are_scaled_to_their_largest_level(
    largest: int, is_binary: bool, channels: int
) -> None:
    levels = np.random.default_rng(0).integers(0, largest + 1, (5, 4, channels))
    kind = {1: 2, 3: 3}[channels] + 3 * is_binary
    body = (
        levels.astype(">u2" if largest > 255 else "u1").tobytes()
        if is_binary
        else " ".join(map(str, levels.ravel())).encode()
    )
    content = b"P%d\n# a face\n4 5\n%d\n" % (kind, largest) + body
    expected = levels / largest * 255
    assert np.abs(array(content, channels, name="1.pgm").reshape(levels.shape) - expected).max() < 1


def test_a_bitmap_is_black_and_white() -> None:
    assert array(b"P4\n4 1\n\x50", 1).tolist() == [[255, 0, 255, 0]]


def test_a_truncated_pgm_is_truncated() -> None:
    assert status(b"P5\n40 50\n255\n" + bytes(900), "1.pgm") == "truncated"


@pytest.mark.parametrize("text", [b"BMW is a car", b"P1 and P2 are files", b"P5 is a file"])
def test_a_text_that_starts_like_an_image_is_not_one(text: bytes) -> None:
    assert status(text, "notes.txt") == "not-an-image"


# Photometric interpretation -> samples.
LAYOUTS = {0: 1, 1: 1, 2: 3, 5: 4}


@pytest.mark.parametrize("photometric", LAYOUTS)
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate", [False, True])
def test_a_tiff_of_any_layout_is_decoded_correctly_or_named(
    photometric: int, bits: int, planar: bool, order: str, deflate: bool
) -> None:
    samples = LAYOUTS[photometric]
    levels = np.random.default_rng(0).integers(0, 2**bits, (13, 22, samples)).astype(np.uint16)
    content = tiff(levels, bits, photometric, planar, order, deflate)
    share = levels / (2**bits - 1)
    if photometric == 0:
        share = 1 - share
    elif photometric == 5:
        share = (1 - share[:, :, :3]) * (1 - share[:, :, 3:])
    try:
        pixels = array(content, 1 if samples == 1 else 3, name="a.tif")
    except Unusable as error:
        assert str(error) == "unsupported-tiff"
        assert bits > 8 or planar or (bits < 8 and samples > 1), "an ordinary layout"
    else:
        assert np.abs(pixels.reshape(share.shape) - share * 255).max() < 2


@pytest.mark.parametrize("bits", [8, 16])
def test_a_planar_tiff_with_alpha_is_decoded_correctly_or_named(bits: int) -> None:
    levels = np.full((4, 4, 2), 2**bits - 1, np.uint16)
    content = tiff(levels, bits, 1, planar=True, more={EXTRA: (SHORT, (2,))})
    assert status(content, "a.tif") == "unsupported-tiff"


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_level_of_any_depth_is_composited(depth: int) -> None:
    top = 2**depth - 1
    levels = np.array([0, top, 0, top] * 4)
    ones = (levels[:, None] >> np.arange(depth - 1, -1, -1)) & 1
    row = np.packbits(ones.ravel().astype(np.uint8)).tobytes()
    chunk = png_chunk(b"tRNS", struct.pack(">H", top))
    content = png((16, 1), depth, 0, b"\0" + row, chunk)
    assert array(content, 1, background=100)[0, :4].tolist() == [0, 100, 0, 100]


def test_a_transparent_colour_of_16_bits_is_named() -> None:
    chunk = png_chunk(b"tRNS", struct.pack(">3H", 257, 257, 257))
    content = png((2, 1), 16, 2, b"\0" + struct.pack(">6H", *[257] * 3, *[258] * 3), chunk)
    assert status(content, "a.png") == "unsupported-transparency"


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_with_an_incomplete_palette_is_unreadable(channels: int) -> None:
    rows = (b"\0" + bytes([200] * 20)) * 20
    palette, transparent = png_chunk(b"PLTE", bytes(30)), png_chunk(b"tRNS", bytes(400))
    for chunks in ((), (palette, transparent)):
        assert status(png((20, 20), 8, 3, rows, *chunks), "a.png", channels) == "unreadable"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.filterwarnings("ignore")  # as in `packing`: Pillow warns about odd metadata
@given(data=st.data())
def test_a_corrupt_photograph_is_decoded_or_gets_a_status(kind: str, data: st.DataObject) -> None:
    exif = {} if kind in ("BMP", "GIF") else {"exif": turned(6)}
    content = bytearray(encoded(PICTURE.resize((12, 9)), kind, **exif))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(len(content) // 2, len(content))) :]
    try:
        found = decoded(bytes(content), shrink=lambda width, height: 0.5)
    except Unusable as error:
        known = ("unreadable", "truncated", "bomb", "not-an-image")
        assert str(error) in known or str(error).startswith("unsupported-")
    else:
        assert found.image.mode == "RGB"


def test_a_user_error_is_not_swallowed() -> None:
    def shrink(width: int, height: int) -> float:
        raise FaceganError(f"{width}x{height}")

    with pytest.raises(FaceganError, match="80x60"):
        decoded(encoded(PICTURE, "JPEG"), shrink=shrink)


@pytest.mark.filterwarnings("ignore")  # as in `packing`: Pillow warns about odd metadata
def test_size_and_rotation_agree_if_other_exif_is_corrupt() -> None:
    # Pillow cannot rewrite this EXIF, and raises after transposing the image.
    entries = [
        struct.pack("<HHI4s", 0x0112, 3, 1, b"\x06\0\0\0"),
        struct.pack("<HHI4s", 0x0201, 7, 2, b"\xc4\x93\x64\xcc"),
    ]
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + b"".join(entries) + bytes(70)
    content = encoded(PICTURE, "JPEG", exif=exif)
    found = decoded(content)
    assert (found.width, found.height) == found.image.size
    plain = opened(encoded(PICTURE, "JPEG"), "RGB")
    assert np.array_equal(np.asarray(found.image), UPRIGHT[6](plain))
