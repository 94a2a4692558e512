import doctest
import json
import os
import re
import stat
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.image.fid import FrechetInceptionDistance

from facegan.core.errors import FaceganError
from facegan.features import FeatureMoments, FrechetDistance, Statistics, frechet
from facegan.features.frechet import rank_warning, symmetric_root
from facegan.params import Extractor
from processes import run_distributed

seeds = st.integers(0, 10_000)


def features(count: int, dimensions: int, seed: int) -> Tensor:
    """Correlated, well-conditioned features with a non-zero mean."""
    rng = torch.Generator().manual_seed(seed)
    mixing = torch.eye(dimensions) + 0.3 * torch.randn(dimensions, dimensions, generator=rng)
    shift = torch.randn(dimensions, generator=rng)
    return torch.randn(count, dimensions, generator=rng) @ mixing + shift


def moments(values: Tensor) -> FeatureMoments:
    result = FeatureMoments(values.shape[1])
    result.update(values)
    return result


def statistics(values: Tensor) -> Statistics:
    return Statistics.from_moments(moments(values), {"count": len(values)})


def metric(real: Tensor, **options: Any) -> FrechetDistance:
    return FrechetDistance(statistics(real), **options)


def distance(real: Tensor, fake: Tensor) -> float:
    result = metric(real)
    result.update(fake)
    return float(result.compute())


def by_scipy(real: Tensor, fake: Tensor) -> float:
    """The paper's formula, with the square root of the non-symmetric product."""
    x, y = real.double().numpy(), fake.double().numpy()
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(s1 @ s2).real
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * root))


@given(dimensions=st.integers(2, 12), seed=seeds)
def test_the_distance_agrees_with_scipys_sqrtm(dimensions: int, seed: int) -> None:
    real = features(20 * dimensions, dimensions, seed)
    fake = features(30 * dimensions, dimensions, seed + 1)
    assert distance(real, fake) == pytest.approx(by_scipy(real, fake), rel=1e-6)


class Pixels(nn.Module):
    """Extractor that returns the pixels."""

    num_features = 12

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1).double()


@pytest.mark.parametrize("seed", range(3))
def test_the_distance_agrees_with_torchmetrics(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    real = torch.randint(0, 256, (200, 3, 2, 2), generator=rng, dtype=torch.uint8)
    fake = torch.randint(0, 200, (150, 3, 2, 2), generator=rng, dtype=torch.uint8)
    theirs = FrechetInceptionDistance(feature=Pixels())
    theirs.set_dtype(torch.float64)
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    ours = distance(real.flatten(1).float(), fake.flatten(1).float())
    assert ours == pytest.approx(float(theirs.compute()), rel=1e-6)


def test_the_distance_between_normals_has_the_closed_form() -> None:
    # In one dimension: (m1 - m2)^2 + (s1 - s2)^2.
    real = torch.tensor([[-1.0], [1.0], [-1.0], [1.0]]) * 3 * (3 / 4) ** 0.5
    fake = torch.tensor([[-1.0], [1.0], [-1.0], [1.0]]) * 5 * (3 / 4) ** 0.5 + 7
    assert distance(real, fake) == pytest.approx(7**2 + (3 - 5) ** 2)


@given(dimensions=st.integers(1, 12), seed=seeds)
def test_the_distance_to_itself_is_zero(dimensions: int, seed: int) -> None:
    values = features(10 * dimensions, dimensions, seed)
    assert distance(values, values) == pytest.approx(0, abs=1e-8)


@given(dimensions=st.integers(1, 12), seed=seeds)
def test_the_distance_is_symmetric_and_positive(dimensions: int, seed: int) -> None:
    one = features(10 * dimensions, dimensions, seed)
    other = features(15 * dimensions, dimensions, seed + 1)
    assert distance(one, other) > 0
    assert distance(one, other) == pytest.approx(distance(other, one), rel=1e-9)


@given(shift=st.floats(-50, 50), seed=seeds)
def test_a_shift_adds_its_squared_norm(shift: float, seed: int) -> None:
    values = features(50, 4, seed).double()
    assert distance(values, values + shift) == pytest.approx(4 * shift**2, abs=1e-8)


@pytest.mark.parametrize("count", [2, 5, 30])
def test_fewer_images_than_features_give_a_finite_distance(count: int) -> None:
    real, fake = features(count, 64, 0), features(count, 64, 1)
    between = distance(real, fake)
    assert np.isfinite(between)
    assert between > 0
    assert distance(real, real) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("constant", [0.0, 1.0, 0.1])
@pytest.mark.parametrize("alive", [0, 1, 40])
def test_constant_features_give_a_finite_distance(constant: float, alive: int) -> None:
    # Many features of black-and-white digits are always 0.
    real, fake = torch.full((2, 100, 400), constant)
    real[:, :alive], fake[:, :alive] = features(100, alive, 0), features(100, alive, 1)
    between = distance(real, fake)
    assert np.isfinite(between)
    expected = distance(real[:, :alive], fake[:, :alive]) if alive else 0.0
    assert between == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_identical_images_give_a_finite_distance() -> None:
    real, fake = features(50, 30, 0), features(1, 30, 1).expand(50, 30)
    assert np.isfinite(distance(real, fake))
    assert np.isfinite(distance(fake, real))


@given(dimensions=st.integers(1, 8), rank=st.integers(0, 8), seed=seeds)
def test_the_root_is_symmetric_and_squares_to_the_matrix(
    dimensions: int, rank: int, seed: int
) -> None:
    half = torch.randn(dimensions, rank, generator=torch.Generator().manual_seed(seed)).double()
    root = symmetric_root(half @ half.T)
    torch.testing.assert_close(root, root.T)
    torch.testing.assert_close(root @ root, half @ half.T)
    assert torch.linalg.eigvalsh(root).min() > -1e-6


@given(dimensions=st.integers(1, 6), cuts=st.lists(st.integers(0, 40), max_size=4), seed=seeds)
def test_moments_do_not_depend_on_how_features_are_split(
    dimensions: int, cuts: list[int], seed: int
) -> None:
    values = features(40, dimensions, seed)
    parts = values.tensor_split(sorted(cuts))
    batched, merged = FeatureMoments(dimensions), FeatureMoments(dimensions)
    for part in parts:
        batched.update(part)
        merged.merge_state(moments(part))
    expected = values.double().numpy()
    for result in (moments(values), batched, merged):
        assert result.count == 40
        assert result.mean.numpy() == pytest.approx(expected.mean(0), abs=1e-12)
        covariance = np.cov(expected, rowvar=False).reshape(dimensions, dimensions)
        assert result.covariance.numpy() == pytest.approx(covariance, abs=1e-10)


def test_bfloat16_features_are_summed_in_float64() -> None:
    values = torch.full((3000, 1), 1.0, dtype=torch.bfloat16)
    values[0] = 3
    result = FeatureMoments(1)
    for part in values.split(7):
        result.update(part)
    assert result.sum.dtype == result.outer.dtype == torch.float64
    assert result.mean.item() == 3002 / 3000


def to_half(metric: FrechetDistance) -> object:
    return metric.to(torch.float16)


def set_dtype(metric: FrechetDistance) -> object:
    return metric.set_dtype(torch.float32)


def cast_parent(metric: FrechetDistance) -> object:
    return nn.ModuleList([metric]).bfloat16()


@pytest.mark.parametrize("cast", [to_half, set_dtype, cast_parent])
def test_casts_do_not_change_the_sums(cast: Callable[[FrechetDistance], object]) -> None:
    real, fake = features(50, 6, 0), features(50, 6, 1)
    expected, result = distance(real, fake), metric(real)
    result.update(fake[:20])
    cast(result)
    result.update(fake[20:])
    assert float(result.compute()) == pytest.approx(expected, rel=1e-12)
    result.reset()
    assert result.sum.dtype == result.outer.dtype == torch.float64


def test_states_follow_the_device() -> None:
    result = metric(features(50, 6, 0)).to("meta")
    for moved in (result, result.to(torch.float16)):
        assert {state.device.type for state in (moved.count, moved.sum, moved.outer)} == {"meta"}


def test_features_may_come_from_a_gpu(gpu: torch.device) -> None:
    real, fake = features(50, 6, 0), features(50, 6, 1)
    expected = distance(real, fake)
    for result in (metric(real), metric(real).to(gpu)):
        result.update(fake.to(gpu))
        assert float(result.compute()) == pytest.approx(expected, rel=1e-9)


def test_a_call_returns_the_batchs_distance_and_accumulates() -> None:
    real, fake = features(50, 6, 0), features(60, 6, 1)
    result = metric(real)
    for batch in fake.split(30):
        assert float(result(batch)) == distance(real, batch)
    assert float(result.compute()) == pytest.approx(distance(real, fake), rel=1e-12)


def test_reset_forgets_all_features() -> None:
    real, fake = features(50, 6, 0), features(50, 6, 1)
    result = metric(real)
    result.update(features(50, 6, 2))
    result.compute()
    result.reset()
    result.update(fake)
    assert float(result.compute()) == distance(real, fake)


def test_a_collection_takes_two_distances_of_the_same_features() -> None:
    real, other, fake = (features(50, 6, seed) for seed in range(3))
    collection = MetricCollection({"real": metric(real), "other": metric(other)})
    for batch in fake.split(20):
        collection.update(batch)
    scores = {name: float(value) for name, value in collection.compute().items()}
    expected = {"real": distance(real, fake), "other": distance(other, fake)}
    assert scores == pytest.approx(expected, rel=1e-12)


def test_a_copy_has_sums_of_its_own() -> None:
    real, fake = features(50, 6, 0), features(50, 6, 1)
    result = metric(real)
    result.update(fake[:20])
    copy = deepcopy(result)
    copy.update(fake[20:])
    assert float(copy.compute()) == pytest.approx(distance(real, fake), rel=1e-12)
    assert float(result.compute()) == distance(real, fake[:20])


def test_features_keep_no_graph() -> None:
    result = metric(features(50, 6, 0))
    result(features(50, 6, 1).requires_grad_())
    assert not result.sum.requires_grad and not result.outer.requires_grad


def test_options_are_torchmetrics_own() -> None:
    assert not metric(features(50, 6, 0), sync_on_compute=False).sync_on_compute


@pytest.mark.parametrize("shape", [(6,), (4, 1), (4, 5), (4, 6, 1)])
def test_features_of_another_shape_are_rejected(shape: tuple[int, ...]) -> None:
    expected = re.escape(f"features have shape {list(shape)}; expected (n, 6)")
    with pytest.raises(ValueError, match=f"^{expected}$"):
        metric(features(50, 6, 0)).update(torch.zeros(shape))


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_features_have_no_distance(count: int) -> None:
    result = metric(features(50, 6, 0))
    result.update(torch.zeros(count, 6))
    with pytest.raises(ValueError, match=f"^{count} features"):
        result.compute()


# One process of two: the distance of its share of 50 features, the second's possibly empty.
PROGRAM = """
import sys
import torch
from torch import distributed
from facegan.features import FeatureMoments, FrechetDistance, Statistics
from facegan.features.frechet import summed_over
from facegan.runtime.distributed import Group
distributed.init_process_group("gloo")
real, fake = torch.randn(2, 50, 6, generator=torch.Generator().manual_seed(0))
moments = FeatureMoments(6, sync_on_compute=False)
moments.update(real)
statistics, rank = Statistics.from_moments(moments), distributed.get_rank()
alone = FrechetDistance(statistics, sync_on_compute=False)
alone.update(fake)
for first in (30, 50):
    for options in ({}, {"dist_sync_fn": summed_over(Group(rank, 2))}):
        metric = FrechetDistance(statistics, **options)
        share = (fake[:first], fake[first:])[rank]
        metric.update(share)
        torch.testing.assert_close(metric.compute(), alone.compute())
        assert metric.count == len(share)  # each process keeps its own sums
distributed.destroy_process_group()
"""


@pytest.mark.faults
def test_processes_sum_up_their_features() -> None:
    run_distributed(PROGRAM)


def test_the_documented_examples_run() -> None:
    result = doctest.testmod(frechet, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("named", [Path, str])
def test_saved_statistics_load_unchanged(named: type[Path | str], tmp_path: Path) -> None:
    path = tmp_path / "below" / "reference.safetensors"
    metadata = {"count": 50, "floor": 0.1, "shape": [2]}
    kept = features(4, 6, 1).float(), torch.tensor([3, 0, 7, 1]), features(2, 6, 2).float()
    before = Statistics.from_moments(moments(features(50, 6, 0)), metadata, *kept)
    before.save(path)
    after = Statistics.load(named(path))
    for name in ("mean", "covariance", "covariance_sqrt", "subset", "train_indices", "holdout"):
        one, other = getattr(before, name), getattr(after, name)
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    assert after.metadata == before.metadata
    assert after.subset.dtype == torch.float32
    fake = features(50, 6, 2)
    assert FrechetDistance(after)(fake) == FrechetDistance(before)(fake)


def test_statistics_files_are_byte_identical_and_have_one_metadata_key(tmp_path: Path) -> None:
    contents = set()
    for number in range(5):
        path = tmp_path / f"{number}.safetensors"
        metadata = {"count": 50, "floor": 0.5}
        metadata = dict(reversed(metadata.items())) if number % 2 else metadata
        Statistics.from_moments(moments(features(50, 6, 0)), metadata).save(path)
        contents.add(path.read_bytes())
    assert len(contents) == 1
    with safe_open(path, "pt") as file:
        assert list(file.metadata()) == ["facegan"]


def test_others_can_read_statistics_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        Statistics.from_moments(moments(features(50, 6, 0))).save(tmp_path / "statistics")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "statistics").stat().st_mode) == 0o644


@pytest.mark.parametrize(
    "kind",
    ["missing", "text", "folder", "no metadata", "no json", "nested", "other tensors", "too few"],
)
def test_a_file_without_statistics_is_reported_with_the_command_that_makes_them(
    kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "reference.safetensors"
    names = ("mean", "covariance", "covariance_sqrt", "subset", "train_indices", "holdout")
    tensors = {name: torch.zeros(1) for name in names}
    match kind:
        case "text":
            path.write_text("text")
        case "folder":
            path.mkdir()
        case "no metadata":
            save_file(tensors, path)
        case "no json":
            save_file(tensors, path, {"facegan": "{"})
        case "nested":
            save_file(tensors, path, {"facegan": "[" * 100_000})
        case "other tensors":
            save_file({**tensors, "layers.0.weight": torch.zeros(1)}, path, {"facegan": "{}"})
        case "too few":
            del tensors["covariance_sqrt"]
            save_file(tensors, path, {"facegan": json.dumps({"count": 4})})
    expected = "not reference statistics .*dvc repro|is a folder; expected statistics that"
    with pytest.raises(FaceganError, match=f"^{path}: ({expected})") as got:
        Statistics.load(path)
    assert len(str(got.value).splitlines()) == 1


def test_as_many_images_as_features_leave_the_covariance_without_full_rank() -> None:
    assert rank_warning(25, 24, "photographs") is None
    text = rank_warning(24, 24, "photographs")
    assert text is not None and text.startswith("24 photographs for 24 features: the covariance")
    # n centred features span at most n - 1 dimensions.
    assert torch.linalg.matrix_rank(moments(features(24, 24, 0)).covariance) == 23


def test_statistics_of_other_settings_are_refused_with_both_values() -> None:
    def computed(**changes: Any) -> Statistics:
        metadata = {"extractor": {**requested.model_dump(), **changes}}
        return Statistics.from_moments(moments(features(50, 6, 0)), metadata)

    path = Path("quick.safetensors")
    requested = Extractor(extractor="efficientnet-lite0", input_size=32, dtype="bfloat16")
    computed().require_extractor(path, requested)
    computed(dtype="float32").require_extractor(path, requested)  # without native bfloat16
    exact = requested.model_copy(update={"dtype": "float32"})
    expected = (
        "quick.safetensors: computed with other settings: input_size is 64, expected 32; "
        "dtype is bfloat16, expected float32; run again: dvc repro reference"
    )
    with pytest.raises(FaceganError, match=f"^{re.escape(expected)}$"):
        computed(input_size=64).require_extractor(path, exact)


def test_a_rank_deficient_covariance_raises_no_python_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distance(features(50, 6, 0), torch.zeros(10, 6))


def test_sums_stay_in_float64_on_the_cpu_when_moved_to_mps() -> None:
    x, expected = features(50, 6, 0), moments(features(50, 6, 0))
    moved = FeatureMoments(6)
    on_mps: Any = SimpleNamespace(device=torch.device("mps"))
    moved._apply(lambda _: on_mps)  # what `to` calls
    moved.update(x)
    assert moved.outer.device.type == "cpu" and moved.outer.dtype == torch.float64
    assert torch.equal(moved.covariance, expected.covariance)


def test_statistics_without_features_of_single_images_are_not_the_official_ones() -> None:
    quick = statistics(features(20, 3, 0))
    replace(quick, subset=features(1, 3, 0)).require_official(Path("official.safetensors"))
    with pytest.raises(FaceganError) as caught:
        quick.require_official(Path("quick.safetensors"))
    assert str(caught.value) == (
        "quick.safetensors: has no features of single images; expected the official statistics "
        "that facegan reference wrote"
    )
