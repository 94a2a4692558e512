import subprocess
import sys

import pytest
import torch

from facegan.cli.device import choose_device
from facegan.core.errors import FaceganError


def test_the_variable_names_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEGAN_DEVICE", "cpu")
    assert choose_device() == torch.device("cpu")


def test_without_the_variable_it_is_the_best_that_can_compute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FACEGAN_DEVICE", raising=False)
    chosen = choose_device()
    assert chosen.type in ("cpu", "cuda", "mps")
    assert (chosen.type == "cuda") == torch.cuda.is_available()
    assert torch.ones(2, device=chosen).sum().item() == 2


@pytest.mark.parametrize("name", ["", "gpu", "CPU", "cuda:99", "cuda:", "cpu cuda", "meta", "xla"])
def test_a_device_that_is_not_there_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEGAN_DEVICE", name)
    with pytest.raises(FaceganError, match=f"^FACEGAN_DEVICE: '{name}': cannot be used") as caught:
        choose_device()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_freed_memory_serves_the_next_tensor() -> None:
    """In a process of its own, because it stays so."""
    program = """
import resource, torch
from facegan.cli.device import choose_device
choose_device()
def faults():
    for _ in range(20):
        torch.ones(64 << 20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(-faults() + faults())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert int(done.stdout) < 16384, done  # the pages of one of the twenty
