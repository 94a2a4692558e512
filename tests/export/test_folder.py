import json
from pathlib import Path

import pytest

from facegan.core.errors import FaceganError
from facegan.core.events import silent
from facegan.export import folder, network, papers
from facegan.sample.opening import Opened
from samples import contents


def test_the_folder_is_complete(exported: Path, opened: Opened) -> None:
    assert set(contents(exported)) == {
        *("index.html", "page.css", "page.js", "latents.js", "worker.js", "icon.png"),
        *("generator.onnx", "generator.json", "card.md", "LICENSE.txt"),
        *(f"onnxruntime-web/{n}" for n in ("ort.js", "ort.wasm.gz", "version.txt", "LICENSE.txt")),
    }
    assert json.loads((exported / "generator.json").read_text()) == {
        "model": None, "version": None, "sha256": opened.sha256, "score": None, "protocol": None,
        "shape": [32, 32, 3], "latent_dim": 12,
    }  # fmt: skip


def test_names_and_scores_are_escaped(
    opened: Opened, runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "write", lambda *arguments: None)
    monkeypatch.setattr(papers, "_attached", lambda opened: {})
    named = Opened(opened.network, opened.sha256, "<b>$x", 1, "fid <i>", "p")
    folder.export(named, tmp_path / "page", silent)
    page = (tmp_path / "page" / "index.html").read_text()
    assert "<b>" not in page
    assert "<i>" not in page
    assert "<h1>&lt;b&gt;$x version 1</h1>" in page
    assert "fid &lt;i&gt;, protocol p" in page


def test_a_failed_export_leaves_nothing(
    opened: Opened, runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise FaceganError("differs")

    monkeypatch.setattr(network, "write", fail)
    with pytest.raises(FaceganError, match="differs"):
        folder.export(opened, tmp_path / "page", silent)
    assert list(tmp_path.iterdir()) == []
