import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from facegan.features import extraction
from facegan.features.extraction import WORTH_COMPILING, Extraction
from facegan.params import Extractor
from inception import random_weights

LITE0 = {"extractor": "efficientnet-lite0", "input_size": 32, "dtype": "float32"}
INCEPTION = {"extractor": "inception", "input_size": 299, "dtype": "float32"}
CPU = torch.device("cpu")


def settings(chosen: dict[str, Any] = LITE0, **changes: Any) -> Extractor:
    return Extractor.model_validate(chosen | changes)


def noise(count: int, channels: int = 3) -> Tensor:
    source = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 40, 40, channels), generator=source).byte()


@pytest.fixture(scope="module")
def of_all_at_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Tensor]]:
    """By extractor: the features of images that go through together, and its weights meanwhile."""
    with random_weights(tmp_path_factory.mktemp("inception")):
        works = Extraction(settings(), CPU, 70), Extraction(settings(INCEPTION), CPU, 8)
        yield {
            "efficientnet-lite0": works[0].extractor(noise(70)),
            "inception": works[1].extractor(noise(8)),
        }


@pytest.mark.parametrize(
    ("chosen", "batch"), [(LITE0, 1), (LITE0, 7), (LITE0, 64), (INCEPTION, 1), (INCEPTION, 7)]
)
def test_features_do_not_depend_on_the_size_of_batches(
    chosen: dict[str, Any], batch: int, of_all_at_once: dict[str, Tensor]
) -> None:
    expected = of_all_at_once[chosen["extractor"]]
    images = noise(len(expected))
    features = Extraction(settings(chosen), CPU, len(images), batch=batch)(images)
    assert (features.shape, features.dtype) == (expected.shape, torch.float32)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("count", "batches"), [(0, 1), (1, 1), (4, 1), (9, 3)])
def test_every_batch_has_the_same_size(count: int, batches: int, channels: int) -> None:
    work = Extraction(settings(), CPU, count, batch=4)
    seen = list[tuple[int, ...]]()
    work.extractor.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    assert work(noise(count, channels)).shape == (count, work.num_features)
    assert seen == [(4, 40, 40, channels)] * batches


def test_what_fills_up_a_batch_leaves_no_trace() -> None:
    work = Extraction(settings(), CPU, 8, batch=8)
    images = noise(8)
    assert torch.equal(work(images[:5]), work(images)[:5])


def test_float32_is_not_tf32_on_a_gpu() -> None:
    work, allowed = Extraction(settings(), CPU, 1), list[bool]()
    work.extractor.register_forward_pre_hook(
        lambda *_: allowed.append(torch.backends.cudnn.allow_tf32)
    )
    before = torch.backends.cudnn.allow_tf32
    work(noise(1))
    assert allowed == [False]
    assert torch.backends.cudnn.allow_tf32 == before


@pytest.mark.parametrize("size", [32, 224])
def test_small_counts_are_not_compiled(size: int) -> None:
    enough = -(-WORTH_COMPILING // size**2)
    chosen = settings(input_size=size)
    assert Extraction(chosen, CPU, enough - 1).compiled is None
    assert Extraction(chosen, CPU, enough).compiled is not None


def test_nothing_is_compiled_for_another_device_than_a_cpu() -> None:
    assert Extraction(settings(), torch.device("meta"), WORTH_COMPILING).compiled is None


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Extraction:
    """Has had its first batch, and fails at any event."""
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("needs a C++ compiler")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction, "WORTH_COMPILING", 0)
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        work = Extraction(settings(), CPU, 9, lambda event: pytest.fail(str(event)), batch=4)
        work(noise(1))
    assert work.compiled is not None
    return work


def test_compiled_features_are_those_of_the_extractor(compiled: Extraction) -> None:
    images = noise(9)
    # The last batch is filled up, and so is none that would have to be compiled anew.
    with torch.compiler.set_stance("fail_on_recompile"):
        features = compiled(images)
    torch.testing.assert_close(features, compiled.extractor(images), rtol=1e-4, atol=1e-4)


def test_weights_are_constants_where_compiled(compiled: Extraction) -> None:
    """Else they are neither packed nor taken together with BatchNorm's."""
    images = noise(4)
    weight = next(compiled.extractor.parameters())
    before, kept = compiled(images), weight.clone()
    try:
        weight.zero_()
        assert torch.equal(compiled(images), before)
    finally:
        weight.copy_(kept)


# Writes the features of the images in a file into it, and prints the events.
PROGRAM = """
import json, sys
import torch
from facegan.features import extraction
from facegan.params import Extractor
extraction.WORTH_COMPILING, events = 0, []
settings, images = Extractor(**json.loads(sys.argv[1])), torch.load(sys.argv[2])
work = extraction.Extraction(settings, torch.device("cpu"), len(images), events.append, batch=4)
torch.save(work(images), sys.argv[2])
print(json.dumps([event.text for event in events]))
"""


def test_without_a_compiler_the_features_are_the_same_and_one_message_says_so(
    tmp_path: Path,
) -> None:
    """In a process of its own, because torch looks for the compiler once."""
    file, cache = tmp_path / "images.pt", tmp_path / "inductor"
    environment = {"CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(cache)}
    torch.save(noise(9), file)
    program = [sys.executable, "-c", PROGRAM, json.dumps(LITE0), str(file)]
    done = subprocess.run(
        program, env=os.environ | environment, capture_output=True, text=True, check=True
    )
    (text,) = json.loads(done.stdout)
    assert text.startswith("not compiled, so that it takes longer (")
    assert "\n" not in text
    assert done.stderr == ""
    features = Extraction(settings(), CPU, 9).extractor(noise(9))
    torch.testing.assert_close(torch.load(file), features, rtol=1e-4, atol=1e-4)
