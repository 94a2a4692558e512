import subprocess
import sys

import pytest
import torch

from facegan.cli.device import choose_device
from facegan.core.errors import FaceganError


def test_the_variable_names_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEGAN_DEVICE", "cpu")
    assert choose_device() == torch.device("cpu")


def test_without_the_variable_the_device_is_a_gpu_if_available(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FACEGAN_DEVICE", raising=False)
    chosen = choose_device()
    assert chosen.type in ("cpu", "cuda", "mps")
    assert (chosen.type == "cuda") == torch.cuda.is_available()
    assert torch.ones(2, device=chosen).sum().item() == 2


@pytest.mark.parametrize("name", ["", "gpu", "CPU", "cuda:99", "cuda:", "cpu cuda", "meta", "xla"])
def test_an_unavailable_device_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEGAN_DEVICE", name)
    with pytest.raises(FaceganError, match=f"^FACEGAN_DEVICE: '{name}': cannot be used") as caught:
        choose_device()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("variables", [{"FACEGAN_DEVICE": "cuda:1"}, {"LOCAL_RANK": "1"}])
def test_a_gpu_becomes_the_current_device_before_anything_else(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GPU: which of PyTorch's functions are called, in order."""
    monkeypatch.delenv("FACEGAN_DEVICE", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    calls = list[tuple[str, torch.device]]()

    def empty(size: int, device: torch.device | str) -> torch.Tensor:
        calls.append(("empty", torch.device(device)))
        return torch.tensor([])

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: calls.append(("set", device)))
    monkeypatch.setattr(torch, "empty", empty)
    choose_device()
    assert calls == [("set", torch.device("cuda:1")), ("empty", torch.device("cuda:1"))]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_memory_serves_the_next_tensor() -> None:
    """In its own process, because the setting cannot be undone."""
    program = """
import resource, torch
from facegan.cli.device import keep_freed_memory
keep_freed_memory()
def faults():
    for _ in range(20):
        torch.ones(64 << 20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(-faults() + faults())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert int(done.stdout) < 16384, done  # the pages of one of the twenty tensors
