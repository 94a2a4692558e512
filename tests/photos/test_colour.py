import io
import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

from facegan.photos.colour import (
    ADOBE_GAMMA,
    ADOBE_RGB,
    CONVERTED,
    DISPLAY_P3,
    IGNORED,
    SRGB_GAMMA,
    matrix_profile,
)
from facegan.photos.decoding import Decoded, decode
from facegan.photos.inputs import Input, Unusable
from samples import encoded, png_chunk

# Columns: the colorants relative to D50, as published by Apple, Adobe and Kodak.
SPACES = {
    "sRGB": [[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]],
    "P3": [[0.5151, 0.2919, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]],
    "Adobe": [[0.6097, 0.2053, 0.1492], [0.3111, 0.6257, 0.0632], [0.0195, 0.0609, 0.7446]],
}
PATCHES = [(199, 148, 128), (224, 172, 105), (141, 85, 36), (190, 60, 60), (60, 140, 70)]
PATCHES += [(70, 90, 170), (128, 128, 128), (240, 240, 240)]
SCENE = np.repeat(np.repeat(np.array([PATCHES], np.uint8), 16, axis=1), 16, axis=0)
PROFILES = {
    "P3": matrix_profile(DISPLAY_P3, SRGB_GAMMA),
    "Adobe": matrix_profile(ADOBE_RGB, ADOBE_GAMMA),
}


def linear(levels: NDArray[Any]) -> NDArray[Any]:
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def curved(light: NDArray[Any]) -> NDArray[Any]:
    light = light.clip(0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def stored(space: str) -> Image.Image:
    """The scene as pixels of another space."""
    light = linear(SCENE / 255) @ np.array(SPACES["sRGB"]).T
    light = light @ np.linalg.inv(np.array(SPACES[space])).T
    levels = light.clip(0, 1) ** (1 / ADOBE_GAMMA) if space == "Adobe" else curved(light)
    return Image.fromarray((levels * 255).round().astype(np.uint8))


def decoded(content: bytes, channels: int = 3) -> Decoded:
    return decode(Input("a", "a"), content, channels, 255)


def error(found: Decoded) -> int:
    return int(np.abs(np.asarray(found.image).astype(int) - SCENE).max())


@pytest.mark.parametrize("space", PROFILES)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("TIFF", {}),
        ("WEBP", {"lossless": True}),
        ("JPEG", {"quality": 100, "subsampling": 0}),
    ],
)
def test_embedded_profiles_are_converted_to_srgb(
    space: str, kind: str, options: dict[str, Any]
) -> None:
    found = decoded(encoded(stored(space), kind, icc_profile=PROFILES[space], **options))
    assert found.colour == CONVERTED
    assert error(found) <= 2
    # Without the profile, the colours are wrong.
    assert error(decoded(encoded(stored(space), kind, **options))) > 5


def test_the_built_profiles_are_those_published() -> None:
    for space, profile in PROFILES.items():
        opened: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile
        colorants = [opened.red_colorant, opened.green_colorant, opened.blue_colorant]
        assert np.allclose(
            np.array([c[0] for c in colorants if c is not None]).T, SPACES[space], atol=0.001
        )


def test_a_profile_of_srgb_changes_no_byte() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
    for mode in ("RGB", "L"):
        found = decoded(encoded(image.convert(mode), icc_profile=profile))
        assert found.colour == ""
        assert np.array_equal(
            np.asarray(found.image), np.asarray(image.convert(mode).convert("RGB"))
        )


@pytest.mark.parametrize("channels", [1, 3])
def test_a_palette_and_transparency_are_converted(channels: int) -> None:
    scene = stored("Adobe")
    for image in (scene.quantize(16), scene.copy()):
        plain = decoded(encoded(image, icc_profile=PROFILES["Adobe"]), channels)
        if image.mode == "RGB":
            image.putalpha(255)
        else:
            image.info["transparency"] = bytes([255] * 16)
        content = encoded(image, icc_profile=PROFILES["Adobe"])
        assert plain.colour == decoded(content, channels).colour == CONVERTED
        assert np.array_equal(np.asarray(plain.image), np.asarray(decoded(content, channels).image))
    assert channels == 1 or error(plain) <= 2


def test_what_is_behind_transparency_is_not_converted() -> None:
    clear = Image.new("RGBA", (4, 4), (200, 30, 30, 0))
    found = decode(Input("a", "a"), encoded(clear, icc_profile=PROFILES["Adobe"]), 3, 77)
    assert (np.asarray(found.image) == 77).all()


def test_a_photograph_with_a_profile_is_rotated_upright() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    content = encoded(stored("P3"), "TIFF", icc_profile=PROFILES["P3"], exif=exif)
    found = decoded(content)
    assert found.colour == CONVERTED
    assert np.abs(np.rot90(np.asarray(found.image)).astype(int) - SCENE).max() <= 2


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_with_the_profile_of_another_curve_is_converted(channels: int) -> None:
    levels = np.arange(256, dtype=np.uint8)[None].repeat(4, axis=0)
    profile = matrix_profile(ADOBE_RGB, 1.0)  # of light, as grey images with RGB profiles may be
    found = decoded(encoded(Image.fromarray(levels), icc_profile=profile), channels)
    expected = curved(levels / 255) * 255
    pixels = np.asarray(found.image).reshape(4, 256, -1)
    assert found.colour == CONVERTED
    assert np.abs(pixels - expected[:, :, None]).max() < 1.5


@pytest.mark.parametrize("profile", [b"garbage", PROFILES["P3"][:200], bytes(4000)])
def test_an_invalid_profile_is_ignored_and_counted(profile: bytes) -> None:
    found = decoded(encoded(Image.fromarray(SCENE), icc_profile=profile))
    assert found.colour == IGNORED
    assert error(found) == 0


def test_a_profile_for_other_channels_is_ignored_and_counted() -> None:
    cmyk = Image.fromarray(SCENE).convert("CMYK")
    plain = decoded(encoded(cmyk, "TIFF"))
    found = decoded(encoded(cmyk, "TIFF", icc_profile=PROFILES["P3"]))
    assert (plain.colour, found.colour) == ("", IGNORED)
    assert np.array_equal(np.asarray(plain.image), np.asarray(found.image))


def with_chunks(image: Image.Image, *chunks: bytes) -> bytes:
    content = encoded(image)
    return content[:33] + b"".join(chunks) + content[33:]


def gamma(value: float) -> bytes:
    return png_chunk(b"gAMA", struct.pack(">I", round(value * 1e5)))


@pytest.mark.parametrize("value", [1.0, 1 / 1.8, 0.7])
def test_the_gamma_of_a_png_is_applied(value: float) -> None:
    found = decoded(with_chunks(Image.fromarray(SCENE), gamma(value)))
    expected = curved((SCENE / 255) ** (1 / value)) * 255
    assert found.colour == CONVERTED
    assert np.abs(np.asarray(found.image) - expected).max() < 1.5


@pytest.mark.parametrize(
    "chunks",
    [
        [gamma(0.45455)],
        [gamma(0.0)],
        [gamma(1.0), png_chunk(b"sRGB", b"\0")],
        [gamma(0.45455), png_chunk(b"cHRM", struct.pack(
            ">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))],
        [png_chunk(b"cHRM", bytes(32))],
        [png_chunk(b"cICP", bytes([1, 13, 0, 1]))],
    ],
    ids=["usual", "zero", "sRGB", "chromaticities of sRGB", "no chromaticities", "cICP of sRGB"],
)  # fmt: skip
def test_a_png_that_states_srgb_changes_no_byte(chunks: list[bytes]) -> None:
    found = decoded(with_chunks(Image.fromarray(SCENE), *chunks))
    assert (found.colour, error(found)) == ("", 0)


def test_the_chromaticities_of_a_png_are_applied() -> None:
    xy = (*DISPLAY_P3[6:], *DISPLAY_P3[:6])
    chunk = png_chunk(b"cHRM", struct.pack(">8I", *(round(v * 1e5) for v in xy)))
    found = decoded(with_chunks(stored("P3"), gamma(0.45455), chunk))
    assert found.colour == CONVERTED
    assert error(found) <= 2


def test_the_code_points_of_a_png_are_applied() -> None:
    found = decoded(with_chunks(stored("P3"), png_chunk(b"cICP", bytes([12, 13, 0, 1]))))
    assert found.colour == CONVERTED
    assert error(found) <= 2


def test_a_png_of_high_dynamic_range_is_named() -> None:
    with pytest.raises(Unusable, match="unsupported-hdr"):
        decoded(with_chunks(Image.fromarray(SCENE), png_chunk(b"cICP", bytes([9, 16, 0, 1]))))


def test_adobe_rgb_by_exif_alone_is_converted() -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: "R03"}
    content = encoded(stored("Adobe"), "JPEG", quality=100, subsampling=0, exif=exif)
    found = decoded(content)
    assert found.colour == CONVERTED
    assert error(found) <= 2
