"""Which picture of a TIFF is the photograph. Camera RAW files are TIFFs too."""

import io

from PIL import TiffImagePlugin

from facegan.photos import formats
from facegan.photos.inputs import Unusable

# Tags and values (TIFF 6.0; TIFF/EP; DNG 1.7).
SUBFILE, BITS, COMPRESSION, PHOTOMETRIC, PLANAR, SUB_IFDS = 254, 258, 259, 262, 284, 330
DNG_VERSION, REDUCED_OR_MASK, WHITE_IS_ZERO, MOSAICS = 50706, 0b101, 0, (32803, 34892)
# Directories that are looked at.
MAX_DIRECTORIES = 16


def select_picture(image: TiffImagePlugin.TiffImageFile, content: bytes, path: str) -> None:
    """Move to the first directory with a whole picture.

    Raises:
        Unusable: if there is none, as in a camera's RAW file, whose first one is a preview; or if
            Pillow decodes it wrongly.
    """
    directory = image.tag_v2
    is_raw = path.lower().endswith(formats.CAMERA_RAW) or DNG_VERSION in directory
    if is_raw or content[8:10] == b"CR" or _has_mosaic(content, directory):
        raise Unusable("unsupported-camera-raw")
    if directory.get(SUBFILE, 0) & REDUCED_OR_MASK:
        for number in range(1, min(image.n_frames, MAX_DIRECTORIES)):
            image.seek(number)
            if not image.tag_v2.get(SUBFILE, 0) & REDUCED_OR_MASK:
                break
        else:
            image.seek(0)
            if SUB_IFDS in image.tag_v2:
                raise Unusable("unsupported-tiff")
    tags = image.tag_v2
    if tags.get(PLANAR) == 2:
        # Pillow reads uncompressed planes as 8 bits, with black as 0, and loses the alpha of grey.
        is_plain = max(tags.get(BITS, (1,))) in (1, 8) and tags.get(PHOTOMETRIC) != WHITE_IS_ZERO
        if image.mode == "LA" or (tags.get(COMPRESSION, 1) == 1 and not is_plain):
            raise Unusable("unsupported-tiff")


def _has_mosaic(content: bytes, directory: TiffImagePlugin.ImageFileDirectory_v2) -> bool:
    """Whether a directory below the first one is of a sensor's pixels."""
    offsets = directory.get(SUB_IFDS, ())
    for offset in (offsets if isinstance(offsets, tuple) else (offsets,))[:MAX_DIRECTORIES]:
        file = io.BytesIO(content)
        try:
            header = content[: 16 if 43 in content[2:4] else 8]  # 43 marks a BigTIFF
            below = TiffImagePlugin.ImageFileDirectory_v2(header)
            file.seek(offset)
            below.load(file)
            if below.get(PHOTOMETRIC) in MOSAICS:
                return True
        except Exception:  # the picture itself may be intact
            continue
    return False


def is_unsupported(content: bytes) -> bool:
    """Whether a TIFF is intact, but its colour space or layout of pixels is not decoded."""
    try:
        TiffImagePlugin.TiffImageFile(io.BytesIO(content))
    except SyntaxError as error:
        return "unknown" in str(error)
    except Exception:  # corrupt bytes make Pillow raise almost anything
        return False
    return False
