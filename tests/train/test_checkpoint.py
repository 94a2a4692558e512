import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from facegan.core.errors import FaceganError
from facegan.models.dcgan import Generator
from facegan.train.checkpoint import load_checkpoint, previous, save_checkpoint
from networks import small_generator

CPU = torch.device("cpu")


@pytest.fixture
def network() -> Generator:
    return small_generator()


@pytest.fixture
def state(network: Generator) -> dict[str, Any]:
    """As a training has it: networks, an optimizer, an RNG, plain numbers."""
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(2, 6)).mean().backward()
    optimizer.step()
    return {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "noise": torch.Generator().manual_seed(5).get_state(),
        "best": {"quick_fid": float("inf")},
        "images_seen": 12,
    }


def flattened(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for n, x in value.items() for k, v in flattened(x, f"{prefix}/{n}").items()}
    return {prefix: value}


def equal(one: Any, other: Any) -> bool:
    first, second = flattened(one), flattened(other)
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) if isinstance(value, Tensor) else value == second[name]
        for name, value in first.items()
    )


def test_a_checkpoint_round_trips(state: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "below" / "checkpoint.pt"
    save_checkpoint(state, path)
    loaded = load_checkpoint(path, CPU)
    assert equal(loaded, state)
    assert not equal(loaded, {**state, "images_seen": 13})
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


def test_a_checkpoint_loads_with_weights_only(state: dict[str, Any], tmp_path: Path) -> None:
    save_checkpoint(state, tmp_path / "checkpoint.pt")
    content = (tmp_path / "checkpoint.pt").read_bytes()[:-32]
    assert equal(torch.load(io.BytesIO(content), weights_only=True), state)


def test_a_pickled_module_is_refused(network: Generator, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    buffer = io.BytesIO()
    torch.save(network, buffer)
    path.write_bytes(buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())
    with pytest.raises(FaceganError, match=f"^{path}: damaged"):
        load_checkpoint(path, CPU)


@given(data=st.data())
def test_a_truncated_checkpoint_or_one_with_a_flipped_bit_is_damaged(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.pt"
    save_checkpoint({"weights": torch.arange(200.0), "images_seen": 12}, path)
    content = bytearray(path.read_bytes())
    offset = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[offset] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[offset:]
    path.write_bytes(content)
    with pytest.raises(FaceganError, match=f"^{path}: damaged") as caught:
        load_checkpoint(path, CPU)
    assert len(str(caught.value).splitlines()) == 1


def test_the_previous_checkpoint_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    for number in range(3):
        save_checkpoint({"images_seen": number}, path)
    assert load_checkpoint(path, CPU) == {"images_seen": 2}
    assert load_checkpoint(previous(path), CPU) == {"images_seen": 1}
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x02", b"PK\x03\x04" * 9])
def test_another_kind_of_file_is_reported_with_its_path(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(FaceganError, match=f"^{path}: damaged"):
        load_checkpoint(path, CPU)


def test_a_failed_save_keeps_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint({"images_seen": 1}, path)
    with pytest.raises(Exception, match="pickle"):
        save_checkpoint({"images_seen": 2, "bad": lambda: None}, path)
    assert load_checkpoint(path, CPU) == {"images_seen": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]
