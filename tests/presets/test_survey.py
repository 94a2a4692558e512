"""The photographs in a folder, as a preset is chosen by them."""

from pathlib import Path

import pytest

from facegan.photos.inputs import Folder
from facegan.presets import survey as module
from facegan.presets.survey import Photographs, survey
from samples import encoded, fill, noise, turned, zipped


def test_photographs_are_counted_and_measured(tmp_path: Path) -> None:
    files = {
        "a.png": encoded(noise(0, 40, 30)),
        "b.jpg": encoded(noise(1, 50, 70), "JPEG", exif=turned(6)),
        "c.zip": zipped({"d.png": encoded(noise(2, 64, 64)), "notes.txt": b"three photographs"}),
        "broken.png": b"no photograph",
    }
    found = survey(Folder(fill(tmp_path, files)))
    assert found == Photographs(3, 0.25, (30, 50, 64), is_grey=False)


def test_grey_photographs_are_recognised_also_when_stored_in_colour(tmp_path: Path) -> None:
    grey = {
        "a.png": encoded(noise(0, mode="L")),
        "b.png": encoded(noise(1, mode="L").convert("RGB")),
    }
    assert survey(Folder(fill(tmp_path, grey))).is_grey
    assert not survey(Folder(fill(tmp_path, {"c.png": encoded(noise(2))}))).is_grey


def test_the_digits_are_counted_without_their_labels(digits: Path) -> None:
    found = survey(Folder(digits))
    assert (found.count, found.unusable, found.is_grey) == (600, 0, True)
    assert set(found.short_sides) == {28}


def test_a_sample_estimates_the_number_of_usable_photographs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAMPLE", 40)
    good = {f"{i}.png": encoded(noise(i, 9 + i % 2, 20)) for i in range(100)}
    bad = {f"{i}b.png": b"no photograph" for i in range(100)}
    found = survey(Folder(fill(tmp_path, good | bad)))
    assert found.count == pytest.approx(100, abs=35)  # four standard deviations
    assert len(found.short_sides) + 40 * found.unusable == pytest.approx(40)
    assert set(found.short_sides) == {9, 10}  # from everywhere, not the first ones alone
    assert survey(Folder(tmp_path)) == found


def test_an_empty_folder_has_no_photographs(tmp_path: Path) -> None:
    assert survey(Folder(tmp_path)) == Photographs(0, 0, (), is_grey=True)
