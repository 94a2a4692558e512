import base64
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from facegan.app.studio import FRAMES, MAX_COUNT, Face, Studio
from facegan.core.errors import FaceganError
from facegan.sample import latents, metadata, opening
from facegan.sample.renderer import Renderer
from registrations import NAME


def pixels(uri: str) -> NDArray[np.uint8]:
    content = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(content)))


def test_a_seed_is_the_face_of_facegan_sample_and_leads_back_to_its_generator(
    studio: Studio, device: torch.device
) -> None:
    uri = f"models:/{NAME}/2"
    opened = opening.open_generator(uri, device, lambda event: None)
    (expected,) = Renderer(opened.network)(latents.latents([7, 8, 9], 10, 1.5))
    paths = studio.draw(studio.faces(2, 7, 3, 1.5))
    assert [path.name for path in paths][1] == "version2-seed0000000008-truncation1.5.png"
    for seed, path, image in zip((7, 8, 9), paths, expected, strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), image[..., 0])
        assert metadata.read(path) == metadata.describe(opened, [seed], 1.5)


def test_versions_and_truncations_have_files_of_their_own(studio: Studio) -> None:
    faces = [Face(v, 7, t) for v in (1, 2) for t in (None, 0.5, 1.0)]
    together = [path.read_bytes() for path in studio.draw(faces)]
    assert len(set(together)) == 6
    for path in studio.draw(faces):
        path.unlink()
    assert [path.read_bytes() for face in faces for path in studio.draw([face])] == together


def test_a_face_is_drawn_once_and_again_when_its_file_was_deleted(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = studio.draw([Face(1, 3, None)])
    content = path.read_bytes()
    path.unlink()
    assert studio.draw([Face(1, 3, None)])[0].read_bytes() == content
    monkeypatch.setattr(studio, "batcher", None)
    assert studio.draw([Face(1, 3, None)]) == [path]


def test_a_morph_begins_and_ends_with_the_faces_of_its_seeds(studio: Studio) -> None:
    ends = [np.asarray(Image.open(p)) for s in (3, 9) for p in studio.draw([Face(1, s, 1.0)])]
    strip = pixels(studio.strip(1, 3, 9, 1.0)).reshape(FRAMES, 34, 32)[:, 1:-1]
    middle = pixels(studio.morph(1, 3, 9, 0.5, 1.0))
    for share, frame, end in ((0, strip[0], ends[0]), (1, strip[-1], ends[1])):
        # The great circle meets its ends up to rounding.
        assert np.abs(frame.astype(int) - end).max() <= 1
        assert np.array_equal(frame, pixels(studio.morph(1, 3, 9, share, 1.0)))
    assert not any(np.array_equal(middle, end) for end in ends)


def test_a_zip_has_the_pngs(studio: Studio) -> None:
    faces = [Face(1, 3, None), Face(2, 3, None)]
    with zipfile.ZipFile(studio.zip(faces)) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    assert found == {face.file: studio.draw([face])[0].read_bytes() for face in faces}


BAD: tuple[object, ...] = (
    None,
    "5",
    True,
    -1,
    1.5,
    float("nan"),
    float("inf"),
    2**32,
    10**400,
    [1],
    {},
)


@pytest.mark.parametrize("value", [*BAD, 2**32 - 1])
def test_a_seed_out_of_bounds_is_one_line(studio: Studio, value: object) -> None:
    with pytest.raises(FaceganError, match=r"^seed .*: valid: whole numbers from 0 to 4294967\d+$"):
        studio.faces(1, value, 2, None)


@pytest.mark.parametrize("value", [*BAD, 0, MAX_COUNT + 1])
def test_a_count_out_of_bounds_is_one_line(studio: Studio, value: object) -> None:
    with pytest.raises(FaceganError, match=r"^count .*: valid: whole numbers from 1 to 32$"):
        studio.faces(1, 5, value, None)


@pytest.mark.parametrize("value", [value for value in (*BAD, 0, 3.1) if value not in (None, 1.5)])
def test_a_truncation_out_of_bounds_is_one_line(studio: Studio, value: object) -> None:
    draw: list[Callable[[], object]] = [
        lambda: studio.faces(1, 5, 1, value),
        lambda: studio.morph(1, 5, 6, 0.5, value),
        lambda: studio.strip(1, 5, 6, value),
    ]
    for call in draw:
        with pytest.raises(FaceganError, match=r"^truncation .*: valid: numbers from 0.1 to 3$"):
            call()


@pytest.mark.parametrize("value", [value for value in BAD if value is not None])
def test_a_share_out_of_bounds_is_one_line(studio: Studio, value: object) -> None:
    with pytest.raises(FaceganError, match=r"^share .*: valid: numbers from 0 to 1$"):
        studio.morph(1, 5, 6, value, None)


@pytest.mark.parametrize("value", [*BAD, 3, 1.0, "../1"])
def test_an_unknown_version_is_one_line_that_names_those_there_are(
    studio: Studio, value: object
) -> None:
    with pytest.raises(FaceganError, match=f"^{NAME} has no version .*; the last ones: 2, 1$"):
        studio.faces(value, 5, 1, None)


@pytest.mark.parametrize("kept", [None, "x", [], [1, 2], [1, -2, None], ["../1", 2, None]])
def test_what_a_browser_kept_is_checked(kept: object) -> None:
    with pytest.raises(FaceganError):
        Face.of(kept)


def test_a_face_is_what_the_browser_kept_of_it() -> None:
    face = Face(1, 5, 0.5)
    assert Face.of(face.triple) == face
    assert re.fullmatch(r"[\w.-]+\.png", face.file)
    assert Path(face.file).name == face.file
