"""Colours of a photograph -> sRGB, by LittleCMS."""

import io
import struct
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, features

from facegan.photos.inputs import Unusable

# How a photograph's profile was used; "" if it has none, or one equal to sRGB.
CONVERTED, IGNORED = "converted", "ignored"
# x and y of red, green, blue and white (IEC 61966-2-1; Adobe RGB (1998); SMPTE RP 431-2, D65).
SRGB = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
ADOBE_RGB = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06, 0.3127, 0.3290)
DISPLAY_P3 = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290)
ADOBE_GAMMA, SRGB_GAMMA = 563 / 256, 2.2
# Samples of sRGB's curve, which is no power.
SRGB_SAMPLES = 1024
# ICC's white, and Bradford's cone responses.
D50 = (0.9642, 1.0, 0.8249)
BRADFORD = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))
# LittleCMS's mode for each of ICC's colour spaces.
MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}
# ITU-T H.273: primaries of sRGB and Display P3, and transfer functions with sRGB's range.
CICP_PRIMARIES, CICP_TRANSFERS = {1: SRGB, 12: DISPLAY_P3}, (1, 6, 13, 14, 15)


def littlecms() -> str:
    return f"LittleCMS {features.version('littlecms2')}"


def to_srgb(image: Image.Image, content: bytes) -> tuple[Image.Image, str]:
    """Convert a loaded image whose file states other colours than sRGB.

    Embedded ICC profiles, PNG's gAMA, cHRM and cICP, and EXIF's mark of Adobe RGB count, in this
    order. Relative colorimetric, with black point compensation. Alpha is kept.

    Returns:
        The image, in RGB or RGBA if it was converted, and `CONVERTED`, `IGNORED` or "".
    Raises:
        Unusable: if the range is not that of a display, as in HDR.
    """
    profile = image.info.get("icc_profile") or _stated(image, content)
    if not profile or image.mode in ("1", "LAB", "I", "F"):
        return image, ""
    alpha = None
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        alpha, image = rgba.getchannel("A"), rgba.convert("L" if image.mode == "LA" else "RGB")
    try:
        transform, mode = _transform(bytes(profile), image.mode)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return _with_alpha(image, alpha), IGNORED
    if transform is None:
        return _with_alpha(image, alpha), ""
    plain = image if image.mode == mode else image.convert(mode)
    return _with_alpha(transform.apply(plain), alpha), CONVERTED


def _with_alpha(image: Image.Image, alpha: Image.Image | None) -> Image.Image:
    if alpha is not None:
        image = image.convert("RGB")
        image.putalpha(alpha)
    return image


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> tuple[ImageCms.ImageCmsTransform | None, str]:
    """The transform and the mode of its input; None if it moves no colour by more than a level.

    Raises:
        PyCMSError: if the profile is invalid.
        ValueError: if it is for another kind of image.
    """
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = str(source.profile.xcolor_space).strip()
    needed = MODES.get(space, "")
    # Grey images often carry an RGB profile; other modes have to agree.
    if needed != ("CMYK" if mode == "CMYK" else "L" if mode == "L" and space == "GRAY" else "RGB"):
        raise ValueError(f"a profile for {space}, an image in {mode}")
    transform = ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        needed,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    return (None if needed != "CMYK" and _is_identity(transform, needed) else transform), needed


def _is_identity(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    steps = np.linspace(0, 255, 17).astype(np.uint8)
    levels = np.arange(256, dtype=np.uint8)[None]
    if mode == "RGB":
        levels = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(17, -1, 3)
    moved = np.asarray(transform.apply(Image.fromarray(levels))).astype(int)
    expected = levels if mode == "RGB" else levels[..., None]
    return bool(np.abs(moved - expected).max() <= 1)


def _stated(image: Image.Image, content: bytes) -> bytes | None:
    """A profile for colours that a file states without one; None if they are those of sRGB."""
    if image.format == "PNG":
        if (cicp := _cicp(content)) is not None:
            return cicp or None
        return None if "srgb" in image.info else _from_png(image)
    if (image.format == "TIFF" or "exif" in image.info) and _is_adobe_rgb(image):
        return matrix_profile(ADOBE_RGB, ADOBE_GAMMA)
    return None


def _is_adobe_rgb(image: Image.Image) -> bool:
    """Whether EXIF says so (DCF 2.0: the interoperability index is R03)."""
    try:
        return image.getexif().get_ifd(ExifTags.IFD.Interop).get(1) == "R03"
    except Exception:  # the image may be intact although its EXIF is corrupt
        return False


def _cicp(content: bytes) -> bytes | None:
    """A profile for PNG's cICP chunk, which precedes the pixels; b"" for sRGB, None without it."""
    start = content.find(b"cICP", 0, content.find(b"IDAT"))
    if start < 0 or content[start - 4 : start] != b"\0\0\0\4":
        return None
    primaries, transfer = content[start + 4 : start + 6]
    if transfer not in CICP_TRANSFERS or primaries not in CICP_PRIMARIES:
        raise Unusable("unsupported-hdr")
    return b"" if primaries == 1 else matrix_profile(CICP_PRIMARIES[primaries], SRGB_GAMMA)


def _from_png(image: Image.Image) -> bytes | None:
    gamma = float(image.info.get("gamma") or 1 / SRGB_GAMMA)
    white_first = image.info.get("chromaticity")
    xy = SRGB if white_first is None else (*white_first[2:], *white_first[:2])
    same = np.allclose(xy, SRGB, atol=0.003)
    if not (same or _is_plausible(xy)) or not 0.1 < gamma < 10:
        return None
    is_usual = abs(gamma * SRGB_GAMMA - 1) < 0.02  # 0.45455 stands for sRGB's curve
    if same and is_usual:
        return None
    return matrix_profile(SRGB if same else xy, SRGB_GAMMA if is_usual else 1 / gamma)


def _is_plausible(xy: tuple[float, ...]) -> bool:
    pairs = np.array(xy).reshape(4, 2)
    triangle = np.c_[pairs[:3], np.ones(3)]
    return bool((pairs[:, 1] > 0.01).all() and abs(np.linalg.det(triangle)) > 0.01)


def matrix_profile(xy: tuple[float, ...], gamma: float) -> bytes:
    """An ICC profile of RGB with the chromaticities `xy` (ICC.1:2001-04).

    Args:
        xy: x and y of red, green, blue and white.
        gamma: exponent of the curve; `SRGB_GAMMA` stands for sRGB's own.
    """
    matrix = _to_d50(np.array(xy).reshape(4, 2))
    curve = b"curv\0\0\0\0" + _curve(gamma)
    text = b"FaceGAN\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(80),
        b"cprt": b"text\0\0\0\0" + text,
        b"wtpt": _xyz(np.array(D50)),
        **{
            name + b"XYZ": _xyz(column)
            for name, column in zip(b"r g b".split(), matrix.T, strict=True)
        },
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(data), len(value))
        data += value + b"\0" * (-len(value) % 4)
    size = start + len(data)
    header = struct.pack(">I4xI4s4s4s", size, 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    header += (
        struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _xyz(np.array(D50))[8:]
    )
    return header + bytes(128 - len(header)) + struct.pack(">I", len(tags)) + table + data


def _curve(gamma: float) -> bytes:
    if gamma != SRGB_GAMMA:
        return struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    levels = np.linspace(0, 1, SRGB_SAMPLES)
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    samples: bytes = np.rint(linear * 65535).astype(">u2").tobytes()
    return struct.pack(">I", SRGB_SAMPLES) + samples


def _to_d50(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """The colorants as columns, relative to D50."""
    xyz = np.c_[pairs, 1 - pairs.sum(axis=1)] / pairs[:, 1:]
    colorants, white = xyz[:3].T, xyz[3]
    colorants = colorants * np.linalg.solve(colorants, white)
    cone = np.array(BRADFORD)
    scale = (cone @ np.array(D50)) / (cone @ white)
    return np.asarray(np.linalg.solve(cone, scale[:, None] * (cone @ colorants)))


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))
