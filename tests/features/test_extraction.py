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
from float64 import NoFloat64
from inception import random_weights
from small_extractor import PYTHONPATH, SmallExtractor

LITE0 = {"extractor": "efficientnet-lite0", "input_size": 32, "dtype": "float32"}
INCEPTION = {"extractor": "inception", "input_size": 299, "dtype": "float32"}
CPU = torch.device("cpu")


def settings(chosen: dict[str, Any] = LITE0, **changes: Any) -> Extractor:
    return Extractor.model_validate(chosen | changes)


def noise(count: int, channels: int = 3) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 40, 40, channels), generator=rng).byte()


@pytest.fixture(scope="module")
def single_batch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Tensor]]:
    """Features of one large batch by extractor; Inception's weights exist meanwhile."""
    with random_weights(tmp_path_factory.mktemp("inception")):
        lite0, inception = Extraction(settings(), CPU, 20), Extraction(settings(INCEPTION), CPU, 4)
        yield {
            "efficientnet-lite0": lite0.extractor(noise(20)),
            "inception": inception.extractor(noise(4)),
        }


@pytest.mark.parametrize(
    ("chosen", "batch"), [(LITE0, 1), (LITE0, 7), (LITE0, 16), (INCEPTION, 1), (INCEPTION, 3)]
)
def test_features_do_not_depend_on_the_batch_size(
    chosen: dict[str, Any], batch: int, single_batch: dict[str, Tensor]
) -> None:
    expected = single_batch[chosen["extractor"]]
    images = noise(len(expected))
    features = Extraction(settings(chosen), CPU, len(images), batch=batch)(images)
    assert (features.shape, features.dtype) == (expected.shape, torch.float32)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("count", "batches"), [(0, 1), (1, 1), (4, 1), (9, 3)])
def test_all_batches_have_the_same_size(count: int, batches: int, channels: int) -> None:
    extraction = Extraction(settings(), CPU, count, batch=4)
    shapes = list[tuple[int, ...]]()
    extraction.extractor.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape))
    assert extraction(noise(count, channels)).shape == (count, extraction.num_features)
    assert shapes == [(4, 40, 40, channels)] * batches


def test_padding_does_not_change_features() -> None:
    extraction = Extraction(settings(), CPU, 8, batch=8)
    images = noise(8)
    assert torch.equal(extraction(images[:5]), extraction(images)[:5])


def test_tf32_is_disabled_during_extraction_only() -> None:
    extraction, allowed = Extraction(settings(), CPU, 1), list[bool]()
    extraction.extractor.register_forward_pre_hook(
        lambda *_: allowed.append(torch.backends.cudnn.allow_tf32)
    )
    before = torch.backends.cudnn.allow_tf32
    extraction(noise(1))
    assert allowed == [False]
    assert torch.backends.cudnn.allow_tf32 == before


@pytest.mark.parametrize("size", [32, 224])
def test_few_images_are_not_worth_compiling(size: int) -> None:
    threshold = -(-WORTH_COMPILING // size**2)
    chosen = settings(input_size=size)
    assert Extraction(chosen, CPU, threshold - 1).compiled is None
    assert Extraction(chosen, CPU, threshold).compiled is not None


def test_only_cpus_compile() -> None:
    assert Extraction(settings(), torch.device("meta"), WORTH_COMPILING).compiled is None


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Extraction:
    """Compiled by a first batch; any event fails the test."""
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("needs a C++ compiler")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction, "WORTH_COMPILING", 0)
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        run = Extraction(settings(), CPU, 9, lambda event: pytest.fail(str(event)), batch=4)
        run(noise(1))
    assert run.compiled is not None
    return run


@pytest.mark.faults
def test_compiled_features_equal_eager_ones(compiled: Extraction) -> None:
    images = noise(9)
    # The last batch is padded, so it needs no recompilation.
    with torch.compiler.set_stance("fail_on_recompile"):
        features = compiled(images)
    torch.testing.assert_close(features, compiled.extractor(images), rtol=1e-4, atol=1e-4)


@pytest.mark.faults
def test_compiled_weights_are_constants(compiled: Extraction) -> None:
    """Otherwise they are neither packed nor fused with BatchNorm."""
    images = noise(4)
    weight = next(compiled.extractor.parameters())
    before, kept = compiled(images), weight.clone()
    try:
        weight.zero_()
        assert torch.equal(compiled(images), before)
    finally:
        weight.copy_(kept)


# Replaces the images in a file by their features, and prints the events.
PROGRAM = """
import json, sys
import torch
from facegan.features import extraction
from facegan.params import Extractor
extraction.WORTH_COMPILING, events = 0, []
settings, images = Extractor(**json.loads(sys.argv[1])), torch.load(sys.argv[2])
run = extraction.Extraction(settings, torch.device("cpu"), len(images), events.append, batch=4)
torch.save(run(images), sys.argv[2])
print(json.dumps([event.text for event in events]))
"""


@pytest.mark.faults
def test_without_a_compiler_features_are_the_same_and_one_message_tells(tmp_path: Path) -> None:
    """In its own process, because torch looks for the compiler once."""
    file, cache = tmp_path / "images.pt", tmp_path / "inductor"
    environment = {"CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(cache)}
    environment["PYTHONPATH"] = PYTHONPATH  # the small extractor is traced in a tenth of the time
    torch.save(noise(9), file)
    program = [sys.executable, "-c", PROGRAM, json.dumps(LITE0), str(file)]
    done = subprocess.run(
        program, env=os.environ | environment, capture_output=True, text=True, check=True
    )
    (text,) = json.loads(done.stdout)
    assert text.startswith("feature extraction runs uncompiled and slower (")
    assert "\n" not in text
    assert done.stderr == ""
    features = SmallExtractor(32, autocast=False)(noise(9))
    torch.testing.assert_close(torch.load(file), features, rtol=1e-4, atol=1e-4)


def test_a_device_without_float64_can_extract_features() -> None:
    lite0 = Extraction(settings(), CPU, 8)
    with NoFloat64():
        assert lite0(noise(8)).dtype == torch.float32
