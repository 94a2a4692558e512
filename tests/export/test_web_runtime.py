import base64
import gzip
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from facegan.core.errors import FaceganError
from facegan.export import web_runtime
from project import ROOT
from samples import contents, tarred

MEMBERS = {name: name.encode() for name in web_runtime.FILES} | {"package/x": b"x"}


@pytest.fixture(name="folder")
def make_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "onnxruntime-web"
    monkeypatch.setattr(web_runtime, "FOLDER", folder)
    return folder


def expect(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    monkeypatch.setattr(web_runtime, "SHA512", digest)


def fake_npm(folder: Path, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    (folder / "npm").write_text(f"#!{sys.executable}\nimport sys\n{program}\n")
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_what_the_page_needs_is_taken_from_npms_archive(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = tarred(MEMBERS, "w:gz")
    expect(content, monkeypatch)
    (tmp_path / "archive").write_bytes(content)
    program = f"import shutil; shutil.copy('{tmp_path}/archive', 'onnxruntime-web.tgz')"
    fake_npm(tmp_path / "bin", program, monkeypatch)
    web_runtime.fetch()
    script, program = web_runtime.FILES
    found = contents(web_runtime.require())
    assert gzip.decompress(found.pop("ort.wasm.gz")) == program.encode()
    assert found == {"ort.js": script.encode(), "version.txt": f"{web_runtime.PACKAGE}\n".encode()}


def test_an_archive_with_another_hash_replaces_nothing(folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    (folder / "ort.js").write_text("precious")
    (tmp_path / "archive").write_bytes(tarred(MEMBERS, "w:gz"))
    with pytest.raises(FaceganError, match=r"sha512 is .*; expected "):
        web_runtime.unpack(tmp_path / "archive")
    assert contents(folder) == {"ort.js": b"precious"}


@pytest.mark.parametrize("installed", [None, "onnxruntime-web@1.2.3"])
def test_a_missing_or_another_version_is_one_line_that_says_how_to_get_it(
    installed: str | None, folder: Path
) -> None:
    if installed:
        folder.mkdir()
        (folder / "version.txt").write_text(installed)
    with pytest.raises(FaceganError) as caught:
        web_runtime.require()
    assert str(caught.value).startswith(f"{web_runtime.PACKAGE} is missing in {folder}; ")
    assert str(caught.value).endswith("python -m facegan.export.web_runtime")


def test_without_npm_it_says_so(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FaceganError, match="npm not found; install npm first"):
        web_runtime.fetch()


def test_without_a_network_npms_reason_is_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = "npm error code ENOTFOUND\\nnpm error request to address failed"
    fake_npm(tmp_path / "bin", f"sys.exit('{error}')", monkeypatch)
    with pytest.raises(FaceganError) as caught:
        web_runtime.fetch()
    assert str(caught.value) == f"{web_runtime.PACKAGE}: npm failed (ENOTFOUND)"
    assert not folder.exists()


def test_a_wheel_contains_it(runtime: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = {"onnxruntime-web/ort.js", "onnxruntime-web/ort.wasm.gz", "page/index.html"}
    assert {f"facegan/export/{name}" for name in expected} <= names
