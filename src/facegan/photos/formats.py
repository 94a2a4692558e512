"""What a file is, by its first bytes and its suffix: the status of inputs that are not decoded."""

import re

# Bytes that `status_of_unread` needs.
HEAD = 4096
# Formats that are decoded. Files with these suffixes are not probed for IDX.
ENCODED = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff"),
    *(".gif", ".pgm", ".ppm", ".pbm", ".pnm"),
)
# Photographs in formats that are not decoded. TIFF's structure is that of most camera RAW formats.
CAMERA_RAW = (
    *(".3fr", ".arw", ".bay", ".cr2", ".cr3", ".crw", ".dcr", ".dcs", ".dng", ".drf", ".eip"),
    *(".erf", ".fff", ".gpr", ".iiq", ".k25", ".kdc", ".mdc", ".mef", ".mos", ".mrw", ".nef"),
    *(".nrw", ".orf", ".ori", ".pef", ".ptx", ".raf", ".raw", ".rw2", ".rwl", ".rwz", ".sr2"),
    *(".sti", ".srf", ".srw", ".x3f"),
    *(".ari", ".bmq", ".cs1", ".dc2", ".kc2", ".pxn", ".qtk", ".rdc"),
)
OTHERS = (
    *(".heic", ".heif", ".hif", ".avif", ".avifs", ".jp2", ".j2k", ".jpf", ".jpx", ".j2c"),
    *(".jxl", ".jxr", ".wdp", ".hdp", ".psd", ".psb", ".exr", ".hdr", ".tga", ".pcx", ".pcd"),
    *(".sgi", ".ras", ".xcf", ".pam", ".pfm", ".qoi", ".dds", ".bpg", ".flif", ".dcm", ".fits"),
    *(".dpx", ".cin", ".mng", ".jng", ".iso", ".lha", ".tzst", ".tbz", ".tb2", ".tlz"),
    *(".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tar.zst", ".7z", ".rar", ".lzh"),
)
# Formats without a signature at their start.
UNSIGNED = (".tga", ".pcx", ".pcd", ".lzh", ".lha", ".iso")
# Parts of a file that a program, or `split`, has cut.
SPLIT = re.compile(r"\.((zip|7z|rar|tar|tgz|tar\.gz|tar\.xz|tar\.bz2)\.(\d{2,3}|a[a-z])|[rz]\d\d)$")
VIDEO = (
    *(".mp4", ".m4v", ".mov", ".qt", ".avi", ".mkv", ".webm", ".3gp", ".3g2", ".mts", ".m2ts"),
    *(".ts", ".mpg", ".mpeg", ".vob", ".wmv", ".asf", ".flv", ".f4v", ".ogv", ".mxf", ".insv"),
    *(".lrv", ".mjpeg", ".braw", ".r3d", ".cine"),
)
# First bytes of formats that are decoded; WebP's and PNM's are not constant.
DECODED = {
    b"\xff\xd8\xff": "jpeg",
    b"\x89PNG\r\n\x1a\n": "png",
    **dict.fromkeys((b"GIF87a", b"GIF89a"), "gif"),
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "tiff"),
    b"BM": "bmp",
}
# Brands of ISO 14496-12's `ftyp` box that are no videos.
BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "avif"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm"), "heic"),
    **dict.fromkeys((b"hevs", b"mif1", b"mif2", b"msf1", b"miaf"), "heic"),
    b"crx ": "camera-raw",
}
# (offset, bytes) -> format, a photograph's or an archive's.
PHOTOGRAPHS = {
    **dict.fromkeys([(0, b"IIRO"), (0, b"IIRS"), (0, b"MMOR"), (0, b"IIU\0")], "camera-raw"),
    **dict.fromkeys([(0, b"FUJIFILMCCD-RAW"), (6, b"HEAPCCDR"), (0, b"FOVb")], "camera-raw"),
    **dict.fromkeys([(0, b"\0MRM"), (0, b"ARRI\x12\x34\x56\x78")], "camera-raw"),
    **dict.fromkeys([(4, b"jP  \r\n\x87\n"), (0, b"\xff\x4f\xff\x51")], "jpeg-2000"),
    (4, b"JXL \r\n\x87\n"): "jpeg-xl",
    (0, b"\xff\x0a"): "jpeg-xl",
    (0, b"II\xbc\x01"): "jpeg-xr",
    (0, b"\xff\xd8\xff\xf7"): "jpeg-ls",
    (0, b"8BPS"): "psd",
    (0, b"gimp xcf"): "xcf",
    (0, b"\x76\x2f\x31\x01"): "openexr",
    **dict.fromkeys([(0, b"#?RADIANCE"), (0, b"#?RGBE")], "radiance-hdr"),
    **dict.fromkeys([(0, b"PF\n"), (0, b"Pf\n")], "pfm"),
    (0, b"P7\n"): "pam",
    (0, b"qoif"): "qoi",
    (0, b"DDS "): "dds",
    (0, b"BPG\xfb"): "bpg",
    (0, b"FLIF"): "flif",
    (0, b"\x01\xda\0\x01"): "sgi",
    (0, b"\x01\xda\x01\x01"): "sgi",
    (0, b"\x59\xa6\x6a\x95"): "sun-raster",
    (128, b"DICM"): "dicom",
    (0, b"SIMPLE  ="): "fits",
    **dict.fromkeys([(0, b"SDPX"), (0, b"XPDS")], "dpx"),
    (0, b"\x80\x2a\x5f\xd7"): "cineon",
    (0, b"\x8aMNG\r\n\x1a\n"): "mng",
    (0, b"\x8bJNG\r\n\x1a\n"): "jng",
    (12, b"CgBI"): "apple-png",
    (0, b"7z\xbc\xaf\x27\x1c"): "7z",
    (0, b"Rar!\x1a\x07"): "rar",
}
# Files of other tools, with labels or with whole data sets.
DATA = {
    (0, b"PAR1"): "data-parquet",
    (0, b"ARROW1"): "data-arrow",
    (0, b"\x89HDF\r\n\x1a\n"): "data-hdf5",
    (0, b"\x93NUMPY"): "data-npy",
    (0, b"MATLAB 5.0 MAT-file"): "data-mat",
    (0, b"MATLAB 7.3 MAT-file"): "data-mat",
    (16, b"\xde\xc0\xef\xbe"): "data-lmdb",
    (0, b"\x0a\x23\xd7\xce"): "data-recordio",  # MXNet's
    (0, b"SQLite format 3\0"): "data-sqlite",
}
# Without a signature of their own: NumPy's are zip archives; TensorFlow's are numbered parts.
DATA_NAMES = {
    "data-npz": re.compile(r"\.npz$"),
    "data-tfrecord": re.compile(r"[.-]tfrecords?(-\d+-of-\d+)?$"),
}
VIDEOS = (
    *((4, b"moov"), (4, b"mdat"), (4, b"wide"), (4, b"pnot"), (0, b"\x1a\x45\xdf\xa3")),
    *((0, b"\0\0\x01\xba"), (0, b"\0\0\x01\xb3"), (0, b"FLV\x01"), (0, b"OggS")),
    *((0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"), (0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01")),
)
# Compressed files: an archive or a photograph if the suffix before says so.
COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"LZIP": "lzip",
    b"\x1f\x9d": "compress",
}
# What stands for a photograph that is elsewhere.
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def status_of_unread(head: bytes, path: str) -> str:
    """The status of an input that cannot be decoded.

    `unsupported-FORMAT`: a photograph or an archive in a format that is not read. `data-FORMAT`,
    `video` and `not-an-image`: not photographs. `unreadable`: damaged, or not what its suffix says.

    Args:
        head: its first `HEAD` bytes.
    """
    lower = path.lower()
    name = lower.rpartition("/")[2]
    if head.startswith(LFS_POINTER):
        return "git-lfs-pointer"
    if name.startswith(".") and name.endswith(".icloud"):
        return "not-downloaded"
    if SPLIT.search(name) and head:
        return "unsupported-split-archive"
    if found := _format(head, name):
        return found
    if name.startswith("._"):  # macOS adds one beside each photograph; it contains no image
        return "not-an-image"
    if name.endswith(CAMERA_RAW) and head:
        return "unsupported-camera-raw"
    if name.endswith(UNSIGNED) and head:
        return f"unsupported-{name.rpartition('.')[2]}"
    if name.endswith(VIDEO):
        return "video"
    return "unreadable" if name.endswith((*ENCODED, *CAMERA_RAW, *OTHERS)) else "not-an-image"


def decoded_format(head: bytes) -> str | None:
    """The format that the first bytes are of, if it is one that is decoded."""
    for signature, kind in DECODED.items():
        if head.startswith(signature):
            return kind
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    is_pnm = head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace()
    return "pnm" if is_pnm else None


def _format(head: bytes, name: str) -> str | None:
    if head[4:8] == b"ftyp":
        size = max(16, min(int.from_bytes(head[:4], "big"), 256))
        brands = [head[8:12], *(head[start : start + 4] for start in range(16, size, 4))]
        formats = [BRANDS[brand] for brand in brands if brand in BRANDS]
        found = "avif" if "avif" in formats else next(iter(formats), None)
        return f"unsupported-{found}" if found else "video"
    for (offset, signature), kind in PHOTOGRAPHS.items():
        if head.startswith(signature, offset):
            return f"unsupported-{kind}"
    for signature, kind in COMPRESSED.items():
        inner = name.rpartition(".")[0].endswith((*ENCODED, ".tar"))
        if head.startswith(signature) and (inner or name.endswith(OTHERS)):
            return f"unsupported-{kind}"
    for (offset, signature), status in DATA.items():
        if head.startswith(signature, offset):
            return status
    for status, pattern in DATA_NAMES.items():
        if head and pattern.search(name):
            return status
    if any(head.startswith(signature, offset) for offset, signature in VIDEOS):
        return "video"
    # Transport streams repeat a byte after 188, or 192 from cameras; RIFF is WebP's form too.
    streams = {head[0:377:188], head[4:389:192]}
    return "video" if b"GGG" in streams or (head[:4], head[8:12]) == (b"RIFF", b"AVI ") else None
