from pathlib import Path

import pytest

from facegan.export import papers
from facegan.sample.opening import Opened


def test_a_file_gets_a_short_card(opened: Opened, tmp_path: Path) -> None:
    card = papers.write_card(opened, tmp_path)
    assert (tmp_path / "card.md").read_text() == card
    assert f"sha256 {opened.sha256}" in card
    assert "32x32 RGB images" in card


def test_a_version_has_its_own_card_and_samples(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = Opened(opened.network, opened.sha256, "facegan-x", 3)
    files = {"card.md": b"# its own", "samples.png": b"png"}
    monkeypatch.setattr(papers, "_attached", lambda _: files)
    assert papers.write_card(version, tmp_path) == "# its own"
    assert (tmp_path / "samples.png").read_bytes() == b"png"


def test_html_in_a_card_is_shown_as_text() -> None:
    page = papers.to_html("<script>x</script> a|b\n\n| a | b |\n|---|---|\n| 1 | **2** |\n")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<td><strong>2</strong></td>" in page


def test_the_licences_name_the_weights_terms() -> None:
    text = papers.license_text()
    assert "photographs, whose terms apply" in text
    assert "Apache License" in text
