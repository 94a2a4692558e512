import pytest

from facegan.photos.decoding import decode
from facegan.photos.inputs import Input, Unusable
from facegan.photos.jpegs import is_unsupported
from samples import encoded, noise

JPEG = encoded(noise(0, 32, 32), "JPEG")
FRAME = JPEG.index(b"\xff\xc0")
# What replaces the frame header's marker and depth.
UNSUPPORTED = {
    "12 bits": (b"\xc1", b"\x0c"),
    "lossless": (b"\xc3", b"\x08"),
    "lossless, 16 bits": (b"\xc3", b"\x10"),
    "hierarchical": (b"\xc5", b"\x08"),
}


def with_frame(marker: bytes, depth: bytes) -> bytes:
    return JPEG[: FRAME + 1] + marker + JPEG[FRAME + 2 : FRAME + 4] + depth + JPEG[FRAME + 5 :]


@pytest.mark.parametrize("kind", UNSUPPORTED)
@pytest.mark.parametrize("name", ["a.jpg", "a.bin"])
def test_a_jpeg_of_a_kind_that_is_not_decoded_is_named(kind: str, name: str) -> None:
    content = with_frame(*UNSUPPORTED[kind])
    with pytest.raises(Unusable, match=r"^unsupported-jpeg$"):
        decode(Input(name, name), content, 3, 255)


def test_a_damaged_jpeg_of_a_usual_kind_is_unreadable() -> None:
    for content in (JPEG[:FRAME], JPEG[:4] + bytes(99), b"\xff\xd8\xff", JPEG):
        assert not is_unsupported(content)
    with pytest.raises(Unusable, match=r"^unreadable$"):
        decode(Input("a.jpg", "a.jpg"), JPEG[:4] + bytes(99), 3, 255)


def test_padding_and_markers_without_a_length_are_skipped() -> None:
    content = with_frame(*UNSUPPORTED["12 bits"])
    assert is_unsupported(content[:2] + b"\xff\xff\x01\xff\xd0" + content[2:])
