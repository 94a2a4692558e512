import hashlib
import importlib.util
import io
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from facegan.core.digests import file_sha256, fingerprint, source_sha256
from facegan.core.errors import FaceganError
from facegan.models.architectures import build_generator
from facegan.models.dcgan import Discriminator, Generator, initialise
from facegan.models.files import load_generator, save_network
from facegan.train.checkpoint import load_checkpoint, previous, save_checkpoint

CPU = torch.device("cpu")
CONFIG: dict[str, Any] = {
    "architecture": "dcgan",
    "size": 32,
    "channels": 1,
    "latent_dim": 6,
    "width": 4,
}


@pytest.fixture
def network() -> Generator:
    generator = build_generator(**CONFIG)
    assert isinstance(generator, Generator)
    initialise(generator, torch.Generator().manual_seed(0))
    generator.train()(torch.randn(5, 6, generator=torch.Generator().manual_seed(1)))
    return generator


@pytest.fixture
def state(network: Generator) -> dict[str, Any]:
    """What a training keeps: networks, an optimizer, an RNG, plain numbers."""
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


def test_a_checkpoint_comes_back_as_it_was(state: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "below" / "checkpoint.pt"
    save_checkpoint(state, path)
    loaded = load_checkpoint(path, CPU)
    assert equal(loaded, state)
    assert not equal(loaded, {**state, "images_seen": 13})
    assert [each.name for each in path.parent.iterdir()] == ["checkpoint.pt"]


def test_a_checkpoint_holds_nothing_that_needs_unpickling(
    state: dict[str, Any], tmp_path: Path
) -> None:
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
def test_a_checkpoint_that_is_cut_off_or_has_a_flipped_bit_is_damaged(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.pt"
    save_checkpoint({"weights": torch.arange(200.0), "images_seen": 12}, path)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[place:]
    path.write_bytes(content)
    with pytest.raises(FaceganError, match=f"^{path}: damaged") as caught:
        load_checkpoint(path, CPU)
    assert len(str(caught.value).splitlines()) == 1


def test_the_checkpoint_before_stays(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    for number in range(3):
        save_checkpoint({"images_seen": number}, path)
    assert load_checkpoint(path, CPU) == {"images_seen": 2}
    assert load_checkpoint(previous(path), CPU) == {"images_seen": 1}
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x02", b"PK\x03\x04" * 9])
def test_what_is_no_checkpoint_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(FaceganError, match=f"^{path}: damaged"):
        load_checkpoint(path, CPU)


def test_a_failed_save_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint({"images_seen": 1}, path)
    with pytest.raises(Exception, match="pickle"):
        save_checkpoint({"images_seen": 2, "bad": lambda: None}, path)
    assert load_checkpoint(path, CPU) == {"images_seen": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_saved_generator_draws_as_before(network: Generator, tmp_path: Path) -> None:
    path = tmp_path / "generator.safetensors"
    save_network(network.state_dict(), CONFIG, path)
    loaded = load_generator(path, CPU)
    assert not any(module.training for module in loaded.modules())
    assert (loaded.size, loaded.channels, loaded.latent_dim) == (32, 1, 6)
    z = torch.randn(3, 6, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(loaded(z), network.eval()(z))


def test_a_network_has_one_metadata_key_with_what_it_was_built_from(
    network: Generator, tmp_path: Path
) -> None:
    path = tmp_path / "generator.safetensors"
    save_network(network.state_dict(), CONFIG, path)
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"facegan": json.dumps(CONFIG, sort_keys=True)}
        tensors = {name: file.get_tensor(name) for name in list(file.keys())}
    assert equal(tensors, dict(network.state_dict()))


def test_the_same_network_gives_the_same_bytes(network: Generator, tmp_path: Path) -> None:
    state = network.state_dict()
    contents = set()
    for number in range(5):
        path = tmp_path / f"{number}.safetensors"
        turned = dict(reversed(CONFIG.items())) if number % 2 else CONFIG
        save_network(state, turned, path)
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_a_networks_layout_in_memory_does_not_change_its_bytes(
    network: Generator, tmp_path: Path
) -> None:
    save_network(network.state_dict(), CONFIG, tmp_path / "one")
    last = network.to(memory_format=torch.channels_last)
    save_network(last.state_dict(), CONFIG, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def foreign(path: Path, kind: str) -> None:
    tensors = {"weight": torch.zeros(2)}
    match kind:
        case "text":
            path.write_text("text")
        case "empty":
            path.write_bytes(b"")
        case "folder":
            path.mkdir()
        case "no metadata":
            save_file(tensors, path)
        case "other metadata":
            save_file(tensors, path, {"format": "pt"})
        case "no json":
            save_file(tensors, path, {"facegan": "{"})
        case "no object":
            save_file(tensors, path, {"facegan": "[1]"})
        case "other keys":
            save_file(tensors, path, {"facegan": json.dumps({"count": 5})})
        case "other tensors":
            save_network(tensors, CONFIG, path)
        case "other width":
            save_network(build_generator(**CONFIG).state_dict(), {**CONFIG, "width": 8}, path)
        case "impossible size":
            save_network(build_generator(**CONFIG).state_dict(), {**CONFIG, "size": 48}, path)
        case "discriminator":
            save_network(Discriminator(32, 1, 4).state_dict(), CONFIG, path)
        case "truncated":
            save_network(build_generator(**CONFIG).state_dict(), CONFIG, path)
            path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    "kind",
    ["missing", "text", "empty", "folder", "no metadata", "other metadata", "no json", "no object",
     "other keys", "other tensors", "other width", "impossible size", "discriminator",
     "truncated"],
)  # fmt: skip
def test_a_file_that_is_no_generator_is_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    foreign(path, kind)
    with pytest.raises(
        FaceganError, match=f"^{path}: not a (generator|network) of this package"
    ) as caught:
        load_generator(path, CPU)
    assert len(str(caught.value).splitlines()) == 1


def test_a_files_digest_is_sha256sums(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_sha256(tmp_path / "file") == expected


@pytest.mark.parametrize("name", ["absent", "."])
def test_a_file_that_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(FaceganError, match=f"^{tmp_path / name}: cannot be read"):
        file_sha256(tmp_path / name)


def module(path: Path, source: str) -> ModuleType:
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    return importlib.util.module_from_spec(spec)


def test_the_digest_of_sources_changes_with_any_of_them_but_not_with_their_order(
    tmp_path: Path,
) -> None:
    one, two = module(tmp_path / "one.py", "x = 1\n"), module(tmp_path / "two.py", "y = 1\n")
    before = source_sha256([one, two])
    assert source_sha256([two, one]) == before
    assert before == hashlib.sha256(b"x = 1\ny = 1\n").hexdigest()
    assert source_sha256([one]) != before
    (tmp_path / "two.py").write_text("y = 2\n")
    assert source_sha256([one, two]) != before


@given(
    parts=st.dictionaries(st.text(), st.integers() | st.text() | st.floats(allow_nan=False)),
    key=st.text(),
)
def test_a_fingerprint_depends_on_the_parts_and_not_on_their_order(
    parts: dict[str, Any], key: str
) -> None:
    identity = fingerprint(parts)
    assert len(identity) == 16
    assert set(identity) <= set("0123456789abcdef")
    assert fingerprint(dict(reversed(parts.items()))) == identity
    assert fingerprint({**parts, key: [parts.get(key)]}) != identity


def test_modules_with_the_same_weights_have_the_same_identity(tmp_path: Path) -> None:
    def save(name: str, value: float) -> str:
        network = nn.Linear(2, 1)
        nn.init.constant_(network.weight, value)
        nn.init.zeros_(network.bias)
        save_network(network.state_dict(), {}, tmp_path / name)
        return file_sha256(tmp_path / name)

    assert save("one", 1.0) == save("two", 1.0) != save("three", 2.0)
