from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from facegan.core.errors import FaceganError
from facegan.data.batches import Batches, to_device_if_fits, to_float
from facegan.data.dataset import load_images
from facegan.runtime.distributed import Group


def numbered(count: int) -> torch.Tensor:
    """Images of one pixel, whose value is the image's index."""
    return torch.arange(count, dtype=torch.uint8).reshape(count, 1, 1, 1)


def numbers(batch: torch.Tensor) -> list[int]:
    return [int(number) for number in batch.flatten()]


def test_to_float_maps_0_to_255_onto_minus_1_to_1() -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1)
    x = to_float(levels)
    assert x.dtype == torch.float32
    assert (x.min().item(), x.max().item()) == (-1, 1)
    torch.testing.assert_close(x.flatten(), torch.linspace(-1, 1, 256), rtol=0, atol=1e-6)


@given(n=st.integers(1, 3), size=st.integers(2, 6), channels=st.sampled_from([1, 3]))
def test_to_float_gives_nchw_in_channels_last_memory(n: int, size: int, channels: int) -> None:
    images = torch.randint(0, 256, (n, size, size + 1, channels), dtype=torch.uint8)
    x = to_float(images)
    assert x.shape == (n, channels, size, size + 1)
    assert x.is_contiguous(memory_format=torch.channels_last)
    for channel in range(channels):
        assert torch.equal(x[:, channel], images[..., channel] / 127.5 - 1)


@given(count=st.integers(1, 40), size=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
def test_an_epoch_has_no_image_twice(count: int, size: int, seed: int) -> None:
    if size > count:
        size = count
    batches = Batches(numbered(count), size, seed)
    assert batches.steps_per_epoch == count // size
    for _ in range(3):
        epoch = [numbers(batch) for batch in islice(batches, batches.steps_per_epoch)]
        assert {len(batch) for batch in epoch} == {size}
        seen = [number for batch in epoch for number in batch]
        assert len(set(seen)) == len(seen) == count // size * size
        assert set(seen) <= set(range(count))


def test_each_epoch_has_its_own_order_and_drops_other_images() -> None:
    batches = Batches(numbered(100), 30, seed=0)
    orders = [[n for b in islice(batches, 3) for n in numbers(b)] for _ in range(4)]
    assert len(set(map(tuple, orders))) == 4
    assert len(set(map(frozenset, orders))) == 4
    assert set().union(*orders) == set(range(100))


def test_the_order_depends_only_on_the_seed() -> None:
    def first(seed: int) -> list[int]:
        return numbers(next(Batches(numbered(100), 50, seed)))

    torch.manual_seed(1)
    order = first(3)
    torch.manual_seed(2)
    assert first(3) == order
    assert len({tuple(first(seed)) for seed in range(5)}) == 5


def test_epochs_of_consecutive_seeds_differ() -> None:
    orders = set()
    for seed in range(4):
        batches = Batches(numbered(50), 50, seed)
        orders |= {tuple(numbers(batch)) for batch in islice(batches, 4)}
    assert len(orders) == 16


@given(data=st.data(), count=st.integers(2, 40), seed=st.integers(0, 9))
def test_resumed_batches_equal_uninterrupted_ones(
    data: st.DataObject, count: int, seed: int
) -> None:
    size = data.draw(st.integers(1, count))
    steps = data.draw(st.integers(0, 4 * (count // size)))
    whole = Batches(numbered(count), size, seed)
    for _ in range(steps):
        next(whole)
    assert whole.seen == steps * size
    resumed = Batches(numbered(count), size, seed, seen=whole.seen)
    moved = Batches(numbered(count), size, seed)
    next(moved)
    moved.seen = whole.seen  # as training does
    for _ in range(3):
        batch = next(whole)
        assert torch.equal(next(resumed), batch)
        assert torch.equal(next(moved), batch)


def test_batches_have_the_dtype_and_shape_of_the_images(dataset: Path) -> None:
    batch = next(Batches(load_images(dataset), 20, seed=0))
    assert (batch.dtype, batch.shape) == (torch.uint8, (20, 32, 32, 1))


def test_a_batch_larger_than_the_dataset_is_refused() -> None:
    assert numbers(next(Batches(numbered(1), 1, seed=0))) == [0]
    expected = r"^train\.batch_size: 11: larger .* of 10 images; lower it, or add photographs$"
    with pytest.raises(FaceganError, match=expected):
        Batches(numbered(10), 11, seed=0)


def test_processes_split_each_batch() -> None:
    whole = Batches(numbered(10), 4, seed=0)
    parts = [Batches(numbered(10), 4, seed=0, group=Group(rank, 2)) for rank in range(2)]
    for _ in range(5):
        shared = [number for part in parts for number in numbers(next(part))]
        assert shared == numbers(next(whole))
    assert {part.seen for part in parts} == {whole.seen}


def test_a_batch_size_must_be_a_multiple_of_the_number_of_processes() -> None:
    with pytest.raises(FaceganError, match=r"train\.batch_size: 5: must be a multiple of .*, 2$"):
        Batches(numbered(10), 5, seed=0, group=Group(0, 2))


def test_on_a_cpu_images_stay_memory_mapped(dataset: Path) -> None:
    images = load_images(dataset)
    assert to_device_if_fits(images, torch.device("cpu")) is images


@pytest.mark.parametrize("kind", ["cuda", "mps"])
@pytest.mark.parametrize(("free", "fit"), [(200, True), (199, False)])
def test_images_move_to_a_gpu_if_they_fit_in_half_of_its_free_memory(
    kind: str, free: int, fit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu, used, whole = torch.device(kind, 0), 50, 10_000
    memory = {gpu: (free, whole)}
    monkeypatch.setattr(torch.cuda, "mem_get_info", memory.__getitem__)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: free + used)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: used)
    images: Any = SimpleNamespace(nbytes=100, to=lambda device: device)  # without a GPU
    assert to_device_if_fits(images, gpu) is (gpu if fit else images)


def test_images_on_the_cpu_are_copied_to_the_device_from_pinned_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copies: list[Any] = []  # without a GPU
    pinned = SimpleNamespace(to=lambda device, non_blocking: copies.append((device, non_blocking)))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda images: pinned)
    next(Batches(numbered(4), 2, 0, torch.device("meta")))
    assert copies == [(torch.device("meta"), True)]


def test_batches_do_not_depend_on_where_the_images_are(
    dataset: Path, gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = load_images(dataset)
    on_gpu = to_device_if_fits(images, gpu)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (images.nbytes, 0))
    on_cpu = to_device_if_fits(images, gpu)
    assert on_gpu.device.type == "cuda" and on_cpu is images
    both = (Batches(images, 20, 0, gpu) for images in (on_gpu, on_cpu))
    for one, other in islice(zip(*both, strict=True), 60):
        assert one.device.type == other.device.type == "cuda"
        assert torch.equal(one, other)
