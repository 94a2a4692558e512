from pathlib import Path

import pytest

from commands import error_lines, invoke
from facegan.export import folder, web_runtime
from samples import contents


@pytest.fixture(autouse=True)
def without_export(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    """The exports that commands start, which write nothing."""
    calls: list[tuple[str, Path]] = []
    monkeypatch.setattr(
        folder, "export", lambda opened, out, report: calls.append((opened.sha256, out))
    )
    monkeypatch.setattr(folder, "require", lambda: None)
    return calls


def test_a_file_is_exported(
    trained: Path, tmp_path: Path, without_export: list[tuple[str, Path]]
) -> None:
    for generator in (trained, trained / "generator.safetensors"):
        done = invoke("export", generator, "page", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("python -m http.server --directory page\n")
    assert [out for _, out in without_export] == [Path("page"), Path("page")]


def test_a_foreign_folder_is_refused(
    trained: Path, tmp_path: Path, without_export: list[tuple[str, Path]]
) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "face.jpg").write_text("precious")
    for out in ("holiday", trained):
        (line,) = error_lines(invoke("export", trained, out, cwd=tmp_path))
        assert "was not written by this stage" in line or "overlaps the output folder" in line
    assert contents(tmp_path / "holiday") == {"face.jpg": b"precious"}
    assert without_export == []


def test_without_onnxruntime_web_one_line_says_how_to_get_it(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "require", web_runtime.require)
    monkeypatch.setattr(web_runtime, "FOLDER", tmp_path / "missing")
    (line,) = error_lines(invoke("export", trained, "page", cwd=tmp_path))
    assert line.startswith(f"{web_runtime.PACKAGE} is missing in ")
    assert not (tmp_path / "page").exists()


def test_too_many_arguments_are_a_usage_error(tmp_path: Path) -> None:
    done = invoke("export", "a", "b", "c", cwd=tmp_path)
    assert done.returncode == 2
    assert "expected [GENERATOR] DIR" in done.stderr
