"""The commands `preset`, `fetch` and `preprocess`, run as a user runs them."""

import hashlib
import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from commands import error_lines, facegan, invoke
from facegan.cli.main import app
from facegan.features import inception_weights
from facegan.params import preset_text, write_preset
from samples import noise


def test_a_preset_becomes_params_yaml(tmp_path: Path) -> None:
    result = facegan("preset", "celeba64", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "params.yaml: preset celeba64\n")
    assert (tmp_path / "params.yaml").read_text() == preset_text("celeba64")


def test_a_preset_keeps_a_modified_file_unless_forced(tmp_path: Path) -> None:
    modified = preset_text("digits").replace("seed: 0", "seed: 1")
    (tmp_path / "other.yaml").write_text(modified)
    arguments = ("preset", "mnist", "--params", "other.yaml")
    (line,) = error_lines(invoke(*arguments, cwd=tmp_path))
    assert line == "other.yaml: differs from every preset; --force overwrites it"
    assert (tmp_path / "other.yaml").read_text() == modified
    assert invoke(*arguments, "--force", cwd=tmp_path).returncode == 0
    assert (tmp_path / "other.yaml").read_text() == preset_text("mnist")


def test_preset_auto_fits_the_fetched_photographs(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    for number in range(10):
        noise(number, 70, 90).save(tmp_path / "faces" / f"{number}.png")
    (tmp_path / "faces" / "broken.jpg").write_bytes(b"not a photograph")
    (tmp_path / "faces" / "README.md").write_text("ten faces")
    invoke("fetch", "faces", cwd=tmp_path)
    result = invoke("preset", "auto", cwd=tmp_path)
    title = "10 photographs in colour, short sides of 70 pixels: celeba64 with 22,500 epochs"
    assert result.stdout == f"params.yaml: preset auto for {title}, batches of 4\n"
    assert invoke("preprocess", "data", "artifacts/dataset", cwd=tmp_path).returncode == 0
    # Written again for more photographs, or as another preset: the file was not modified.
    assert invoke("preset", "auto", cwd=tmp_path).returncode == 0
    assert invoke("preset", "celeba64", cwd=tmp_path).returncode == 0


def test_preset_auto_keeps_a_modified_file_unless_forced(tmp_path: Path) -> None:
    for number in range(10):
        noise(number, 70, 90).save(tmp_path / f"{number}.png")
    path = tmp_path / "params.yaml"
    invoke("preset", "auto", ".", cwd=tmp_path)
    path.write_text(modified := path.read_text().replace("seed: 0", "seed: 1"))
    (line,) = error_lines(invoke("preset", "auto", ".", cwd=tmp_path))
    assert line == "params.yaml: differs from every preset; --force overwrites it"
    assert path.read_text() == modified
    assert invoke("preset", "auto", ".", "--force", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["auto"], "data: no such folder; get photographs with: facegan fetch"),
        (["auto", "."], "0 usable photographs; at least 8 are required, and thousands advised"),
        (["celeba64", "faces"], "faces: only preset auto looks at photographs"),
    ],
)
def test_a_preset_that_cannot_be_chosen_writes_nothing(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    assert error_lines(invoke("preset", *arguments, cwd=tmp_path)) == [message]
    assert not list(tmp_path.iterdir())


def test_a_folder_in_place_of_the_parameter_file_says_what_was_expected(tmp_path: Path) -> None:
    (line,) = error_lines(invoke("preset", "digits", "--params", ".", cwd=tmp_path))
    assert line == ".: is a folder; expected a file to write, such as params.yaml"


def test_missing_photographs_suggest_fetch(tmp_path: Path) -> None:
    write_preset("digits", tmp_path / "params.yaml", force=False)
    (line,) = error_lines(invoke("preprocess", "data", "artifacts/dataset", cwd=tmp_path))
    assert line == "data: no such folder; get photographs with: facegan fetch"


def test_fetch_and_preprocess_create_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    for number in range(3):
        Image.new("L", (40, 30), 60 * number).save(tmp_path / "faces" / f"{number}.png")
    write_preset("digits", tmp_path / "params.yaml", force=False)
    fetched = facegan("fetch", "faces", cwd=tmp_path)
    assert fetched.stdout == (
        "data: 3 inputs from faces; to track them: dvc add data; for a params.yaml that fits them: "
        "facegan preset auto\n"
        "data: of fewer than 2,000 photographs, expect visible defects, and copies if they are "
        "very few; that params.yaml works against both, and more photographs do more\n"
    )
    assert facegan("preprocess", "data", "artifacts/dataset", cwd=tmp_path).returncode == 0
    report = json.loads((tmp_path / "artifacts" / "dataset" / "report.json").read_text())
    assert report["inputs"] == 3


ADDRESS = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth"
)


def test_the_help_of_fetch_names_the_weights() -> None:
    result = CliRunner().invoke(app, ["fetch", "--help"], env={"COLUMNS": "200"})
    assert "celeba, inception," in result.output


def test_a_dry_run_of_the_weights_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEGAN_INCEPTION", "models/inception.pth")
    result = invoke("fetch", "inception", "--dry-run", cwd=tmp_path)
    expected = f"95,628,359 bytes would be downloaded from {ADDRESS} to models/inception.pth\n"
    assert (result.returncode, result.stdout) == (0, expected)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_the_weights_are_not_fetched_into_a_folder_of_photographs(
    options: list[str], tmp_path: Path
) -> None:
    arguments = ("fetch", "inception", "--out", "faces", *options)
    (line,) = error_lines(invoke(*arguments, cwd=tmp_path))
    expected = "--out applies to photographs only; for the weights, set FACEGAN_INCEPTION=PATH"
    assert line == expected
    assert not list(tmp_path.iterdir())


def test_fetched_weights_are_named_and_data_is_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEGAN_INCEPTION", "inception.pth")
    monkeypatch.setattr(inception_weights, "SHA256", hashlib.sha256(b"weights").hexdigest())
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "face.jpg").write_bytes(b"face")
    (tmp_path / "published").write_bytes(b"weights")
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, args=[0.05]).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/published"
        monkeypatch.setattr(inception_weights, "ADDRESSES", (address,))
        result = CliRunner().invoke(app, ["fetch", "inception"])
        server.shutdown()
    expected = "inception.pth: the Inception weights that published FIDs use\n"
    assert (result.exit_code, result.stdout) == (0, expected)
    assert (tmp_path / "inception.pth").read_bytes() == b"weights"
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["face.jpg"]
