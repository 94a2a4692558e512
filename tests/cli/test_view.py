"""The command `score`. tests/integration/test_pipeline.py tests `summary`."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from commands import error_lines, invoke
from facegan.core.digests import file_sha256
from facegan.data.dataset import load_images
from samples import encoded, fill, zipped


@pytest.fixture
def project(dataset: Path, references: tuple[Path, Path], tmp_path: Path) -> Path:
    """A project with the digits' statistics, and 40 of the digits as a zip and as a folder."""
    (tmp_path / "stats").mkdir()
    shutil.copy(references[1], tmp_path / "stats/official.safetensors")
    command = "facegan reference data quick.safetensors stats/official.safetensors"
    (tmp_path / "dvc.yaml").write_text(f"stages:\n  reference:\n    cmd: {command}\n")
    images = load_images(dataset).numpy()[:40, ..., 0]
    files = {f"{n:02d}.png": encoded(Image.fromarray(image)) for n, image in enumerate(images)}
    fill(tmp_path, {"faces.zip": zipped(files)})
    fill(tmp_path / "faces [b]", files)
    return tmp_path


def test_score_shows_a_table(project: Path) -> None:
    result = invoke("score", "faces [b]", cwd=project)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("faces [b]")
    for text in ("fid40_efficientnet-lite0-32", "40 images against 600 real images", "recall"):
        assert text in result.stdout
    assert result.stderr.splitlines() == ["read: 40/40", "score: 40/40"]


def test_score_prints_json_like_metrics_json(project: Path) -> None:
    (project / "below").mkdir()
    result = invoke("score", "../faces.zip", "--json", cwd=project / "below")
    scores = json.loads(result.stdout)
    fid = "fid40_efficientnet-lite0-32"
    assert scores[fid] > 0 and scores["protocol"]["name"] == fid
    assert scores["precision20_efficientnet-lite0-32"] > 0.5  # real images
    assert scores["reference"] == file_sha256(project / "stats/official.safetensors")


def test_warnings_about_scores_in_json_are_on_stderr_too(project: Path) -> None:
    (project / "faces [b]/a.txt").write_text("x")
    result = invoke("score", "faces [b]", "--json", cwd=project)
    assert json.loads(result.stdout)["warnings"] == ["passed over: 1 not-an-image"]
    assert "score: passed over: 1 not-an-image" in result.stderr.splitlines()


def test_score_takes_another_reference(project: Path, tmp_path: Path) -> None:
    (project / "stats/official.safetensors").rename(project / "other")
    assert invoke("score", "faces.zip", "--reference", "other", cwd=project).returncode == 0
    (line,) = error_lines(invoke("score", "faces.zip", cwd=project))
    assert line.startswith("stats/official.safetensors: not reference statistics")


def test_an_image_that_cannot_be_scored_is_an_error(project: Path) -> None:
    (project / "faces [b]/07.png").write_bytes(b"")
    result = invoke("score", "faces [b]", cwd=project)
    assert (result.returncode, result.stdout) == (1, "")
    lines = [line for line in result.stderr.splitlines() if not line.startswith("read: 40")]
    assert lines[0] == "read: 07.png: unreadable"
    (line,) = lines[1:]
    assert line.startswith("facegan: faces [b]: 1 of 40 images cannot be scored; valid")


@pytest.mark.parametrize("name", ["nowhere", "s3://"])
def test_score_of_nothing_is_one_line(project: Path, name: str) -> None:
    (line,) = error_lines(invoke("score", name, cwd=project))
    assert name in line


def test_outside_a_project_the_reference_has_to_be_named(tmp_path: Path) -> None:
    (line,) = error_lines(invoke("score", "faces", cwd=tmp_path))
    assert line.endswith("dvc.yaml: no command of the stage reference; run in a project, or name "
                         "the file by option")  # fmt: skip
