import numpy as np
import pytest

from facegan.core.errors import FaceganError
from facegan.core.events import Event, Progress, silent
from facegan.models.sampling import latents
from facegan.sample.interpolation import frames
from facegan.sample.opening import Opened
from facegan.sample.renderer import Renderer
from networks import small_generator


def test_a_walk_shows_the_images_of_its_seeds() -> None:
    opened = Opened(small_generator().eval(), "0" * 64)
    found = list(frames(opened, [4, 5, 6, 7], 2, 3, True, None, False, None, silent))
    assert len(found) == 6
    images = np.concatenate(list(Renderer(opened.network)(latents(4, 6, 4))))
    assert np.array_equal(found[0], np.concatenate([images[0], images[2]], axis=1))
    assert np.array_equal(found[3], np.concatenate([images[1], images[3]], axis=1))
    assert not np.array_equal(found[1], found[0])


def test_frames_are_resized_before_they_get_their_caption() -> None:
    opened = Opened(small_generator().eval(), "0" * 64, "faces", 3, "fid 1", "p")
    events: list[Event] = []
    found = list(frames(opened, [1, 2], 1, 2, False, 1.0, True, 300, events.append))
    assert [frame.shape[1:] for frame in found] == [(300, 1)] * 3
    assert found[0].shape[0] > 300
    assert events[-1] == Progress(3, 3)


def test_too_many_frames_are_refused_before_the_first() -> None:
    opened = Opened(small_generator().eval(), "0" * 64)
    with pytest.raises(FaceganError, match=r"^3,000,000 frames of 1 images: valid: at most"):
        next(frames(opened, list(range(1000)), 1, 3000, True, None, False, None, silent))
