import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from facegan.app import batching
from facegan.app.batching import Batcher
from facegan.core.errors import FaceganError
from facegan.sample import latents
from facegan.sample.renderer import Renderer
from networks import small_generator


def test_visitors_at_once_share_batches_and_get_their_own_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = small_generator().eval()
    z = latents.latents(list(range(20)), 6)
    expected = np.concatenate(list(Renderer(network)(z)))
    started, sizes = threading.Event(), list[int]()

    class Waiting(Renderer):
        def __call__(self, z: torch.Tensor) -> Iterator[Any]:
            sizes.append(len(z))
            started.wait(10)  # until all requests wait
            return super().__call__(z)

    monkeypatch.setattr(batching, "Renderer", Waiting)
    with Batcher() as batcher, ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(batcher.render, network, row[None]) for row in z]
        while len(batcher._waiting) + sum(sizes) < 20:
            pass
        started.set()
        images = [answer.result(10)[0] for answer in answers]
    assert len(sizes) == 2 and sum(sizes) == 20
    assert np.array_equal(images, expected)


def test_different_networks_do_not_share_a_batch_and_one_that_fails_stops_none() -> None:
    good, bad = small_generator().eval(), small_generator().eval()
    for parameter in bad.parameters():
        parameter.data.fill_(float("nan"))
    z = latents.latents([1], 6)
    (expected,) = Renderer(good)(z)
    with Batcher() as batcher, ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(batcher.render, n, z) for n in (good, bad) * 4]
        for answer in answers[::2]:
            assert np.array_equal(answer.result(10), expected)
        for answer in answers[1::2]:
            with pytest.raises(FaceganError, match="NaN"):
                answer.result(10)


def test_a_full_queue_refuses_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "MAX_WAITING", 0)
    with Batcher() as batcher, pytest.raises(FaceganError, match="requests are waiting; try again"):
        batcher.render(small_generator().eval(), latents.latents([1], 6))


def test_a_request_is_given_up_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "PATIENCE", 0.01)
    batcher = Batcher()  # its thread is not running
    with pytest.raises(FaceganError, match="no image within"):
        batcher.render(small_generator().eval(), latents.latents([1], 6))
