import io
from pathlib import Path

import pytest
from PIL import Image

from facegan.photos import archives, discovery
from facegan.photos.formats import decoded_format, status_of_unread
from facegan.photos.inputs import OTHERS, Folder, Unusable
from samples import read_input


def ftyp(brand: bytes, *compatible: bytes) -> bytes:
    size = 16 + 4 * len(compatible)
    return size.to_bytes(4, "big") + b"ftyp" + brand + bytes(4) + b"".join(compatible) + bytes(99)


UNREAD = {
    "heic": ("unsupported-heic", ftyp(b"heic", b"mif1")),
    "heif": ("unsupported-heic", ftyp(b"mif1", b"heic")),
    "avif": ("unsupported-avif", ftyp(b"mif1", b"miaf", b"avif")),
    "cr3": ("unsupported-camera-raw", ftyp(b"crx ", b"isom")),
    "orf": ("unsupported-camera-raw", b"IIRO\x08\0\0\0"),
    "rw2": ("unsupported-camera-raw", b"IIU\0\x08\0\0\0"),
    "raf": ("unsupported-camera-raw", b"FUJIFILMCCD-RAW 0201"),
    "crw": ("unsupported-camera-raw", b"II\x1a\0\0\0HEAPCCDR"),
    "x3f": ("unsupported-camera-raw", b"FOVb"),
    "mrw": ("unsupported-camera-raw", b"\0MRM"),
    "jp2": ("unsupported-jpeg-2000", b"\0\0\0\x0cjP  \r\n\x87\n"),
    "jxl": ("unsupported-jpeg-xl", b"\0\0\0\x0cJXL \r\n\x87\n"),
    "jxr": ("unsupported-jpeg-xr", b"II\xbc\x01"),
    "psd": ("unsupported-psd", b"8BPS\0\x01"),
    "exr": ("unsupported-openexr", b"\x76\x2f\x31\x01"),
    "hdr": ("unsupported-radiance-hdr", b"#?RADIANCE\n"),
    "pfm": ("unsupported-pfm", b"PF\n4 4\n-1.0\n"),
    "pam": ("unsupported-pam", b"P7\nWIDTH 4\n"),
    "dcm": ("unsupported-dicom", bytes(128) + b"DICM"),
    "tga": ("unsupported-tga", b"\0\0\x02" + bytes(99)),
    "ppm.gz": ("unsupported-gzip", b"\x1f\x8b\x08"),
    "ppm.bz2": ("unsupported-bzip2", b"BZh9"),
    "tar.lz4": ("unsupported-lz4", b"\x04\x22\x4d\x18"),
    "tar.lz": ("unsupported-lzip", b"LZIP\x01"),
    "tar.z": ("unsupported-compress", b"\x1f\x9d\x90"),
    "tzst": ("unsupported-zstd", b"\x28\xb5\x2f\xfd"),
    "tbz": ("unsupported-bzip2", b"BZh9"),
    "iso": ("unsupported-iso", bytes(4096)),
    "zip.001": ("unsupported-split-archive", b"PK\x03\x04"),
    "zip.002": ("unsupported-split-archive", b"\x01\x02"),
    "7z.001": ("unsupported-split-archive", b"7z\xbc\xaf\x27\x1c"),
    "z01": ("unsupported-split-archive", b"PK\x07\x08PK\x03\x04"),
    "r00": ("unsupported-split-archive", b"Rar!\x1a\x07"),
    "tar.gz.aa": ("unsupported-split-archive", b"\x1f\x8b\x08"),
    "dpx": ("unsupported-dpx", b"SDPX"),
    "cin": ("unsupported-cineon", b"\x80\x2a\x5f\xd7"),
    "mng": ("unsupported-mng", b"\x8aMNG\r\n\x1a\n"),
    "ari": ("unsupported-camera-raw", b"ARRI\x12\x34\x56\x78"),
    "kc2": ("unsupported-camera-raw", b"II*\0"),
    "7z": ("unsupported-7z", b"7z\xbc\xaf\x27\x1c"),
    "png": ("unsupported-apple-png", b"\x89PNG\r\n\x1a\n\0\0\0\x04CgBI"),
    "jpg": ("git-lfs-pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
}
DATA = {
    "parquet": b"PAR1",
    "arrow": b"ARROW1\0\0",
    "hdf5": b"\x89HDF\r\n\x1a\n",
    "npy": b"\x93NUMPY\x01\0",
    "mat": b"MATLAB 5.0 MAT-file, Platform: GLNXA64",
    "lmdb": bytes(16) + b"\xde\xc0\xef\xbe",
    "recordio": b"\x0a\x23\xd7\xce",
    "sqlite": b"SQLite format 3\0",
}
# Known by the suffix.
BY_SUFFIX = (
    *("tga", "ppm.gz", "ppm.bz2", "tar.lz4", "tar.lz", "tar.z", "tzst", "tbz", "iso", "zip.001"),
    *("zip.002", "7z.001", "z01", "r00", "tar.gz.aa", "kc2"),
)
VIDEOS = {
    "mp4": ftyp(b"mp42", b"isom"),
    "mov": b"\0\0\0\x08wide\0\0\0\0mdat",
    "mkv": b"\x1a\x45\xdf\xa3",
    "avi": b"RIFF\0\0\0\0AVI ",
    "mts": b"\0\0\0\0" + (b"G" + bytes(191)) * 3,
    "ts": (b"G" + bytes(187)) * 3,
    "mpg": b"\0\0\x01\xba",
    "wmv": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    "flv": b"FLV\x01",
}


@pytest.mark.parametrize("suffix", UNREAD)
def test_a_format_that_is_not_read_is_named(suffix: str) -> None:
    status, head = UNREAD[suffix]
    assert status_of_unread(head, f"a.{suffix}") == status
    if suffix not in BY_SUFFIX:
        assert status_of_unread(head, "a.jpg") == status


@pytest.mark.parametrize("kind", DATA)
def test_data_of_other_tools_is_named_and_is_no_photograph(kind: str) -> None:
    for name in (f"a.{kind}", "a", "a.jpg"):
        assert status_of_unread(DATA[kind], name) == f"data-{kind}"
    assert f"data-{kind}" in OTHERS


@pytest.mark.parametrize(
    "name", ["a.tfrecord", "celeba-train.tfrecords", "x.tfrecord-00000-of-00002"]
)
def test_data_of_tensorflow_is_known_by_its_name(name: str) -> None:
    assert status_of_unread(b"\x10\0\0\0", name) == "data-tfrecord"


@pytest.mark.parametrize("suffix", VIDEOS)
def test_videos_are_recognised_by_content_or_suffix(suffix: str) -> None:
    for name in (f"a.{suffix}", "a.jpg", "a"):
        assert status_of_unread(VIDEOS[suffix], name) == "video"
    assert status_of_unread(b"?" * 99, f"a.{suffix}") == "video"


@pytest.mark.parametrize(
    "name", ["a.txt", "a.pdf", "labels-idx1-ubyte.gz", "._a.jpg", "a.docx", "a"]
)
def test_documents_are_not_images(name: str) -> None:
    for head in (b"", b"%PDF-1.7", b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"\x1f\x8b\x08", b"text"):
        assert status_of_unread(head, name) == "not-an-image"


def test_a_file_that_is_not_what_its_suffix_says_is_unreadable() -> None:
    for name in ("a.jpg", "a.pgm", "a.heic", "a.jxl"):
        assert status_of_unread(b"text", name) == "unreadable"


def test_a_placeholder_of_a_photograph_in_the_cloud_is_named() -> None:
    assert status_of_unread(b"bplist00", "2024/.IMG_1.HEIC.icloud") == "not-downloaded"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP", "PPM"])
def test_decoded_formats_are_recognised(kind: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, kind)
    assert decoded_format(buffer.getvalue()) == ("pnm" if kind == "PPM" else kind.lower())


@pytest.mark.parametrize(
    ("name", "head", "status"),
    [
        ("a.mp4", VIDEOS["mp4"], "video"),
        ("a.bin", b"data", "not-an-image"),
        ("a.jpg", b"data", "bomb"),
        ("a.jpg", b"\xff\xd8\xff\xe0", "bomb"),
        ("a.heic", UNREAD["heic"][1], "unsupported-heic"),
    ],
)
@pytest.mark.parametrize("size", [archives.MAX_BYTES + 1, 2**33])
def test_a_file_of_any_size_has_the_status_of_its_first_bytes(
    name: str, head: bytes, status: str, size: int, tmp_path: Path
) -> None:
    with (tmp_path / name).open("wb") as file:
        file.write(head)
        file.truncate(size)  # sparse
    (item,) = discovery.find(Folder(tmp_path))
    with pytest.raises(Unusable, match=f"^{status}$"):
        read_input(Folder(tmp_path), item)
