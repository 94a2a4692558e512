from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from buckets import Proxy
from facegan.core.errors import FaceganError
from facegan.doctor import findings, hardware
from facegan.features import inception_weights
from facegan.params import Params, write_preset


def unneeded() -> str:
    raise AssertionError("torch was imported")


@pytest.fixture
def cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets the flags of the CPU; there is no accelerator."""
    monkeypatch.setattr(hardware, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(hardware, "_may_have_accelerator", lambda: False)
    monkeypatch.delenv("FACEGAN_DEVICE", raising=False)

    def write(flags: str) -> None:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\nbugs\t: x\n")

    return write


@pytest.mark.parametrize(
    ("flags", "status", "text"),
    [
        ("avx512_bf16 amx_bf16 amx_tile", "ok", "with AMX"),
        ("avx512_bf16", "ok", "with AVX-512 BF16"),
        ("avx2", "warning", "without native bfloat16"),
    ],
)
def test_a_cpu_is_described_without_torch(
    flags: str, status: str, text: str, cpu: Callable[[str], None]
) -> None:
    cpu(flags)
    finding = hardware.device(unneeded)
    assert finding.status == status and text in finding.found


def test_a_named_device_is_tried(
    cpu: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu("amx_bf16")
    monkeypatch.setenv("FACEGAN_DEVICE", "cuda")
    assert hardware.device(lambda: "cuda:0, a GPU").found == "cuda:0, a GPU"

    def fail() -> str:
        raise FaceganError("FACEGAN_DEVICE: 'cuda': cannot be used")

    ((_, finding),) = findings.run({"device": lambda: hardware.device(fail)})
    assert finding.status == "problem"


def test_a_driver_without_a_gpu_for_torch_gets_a_warning(
    cpu: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu("amx_bf16")
    monkeypatch.setattr(hardware, "_may_have_accelerator", lambda: True)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hardware.device(lambda: "cpu").status == "ok"
    (tmp_path / "nvidia-smi").touch(0o755)
    assert hardware.device(lambda: "cpu").status == "warning"


def test_the_weights_of_the_presets_extractor_are_installed(tmp_path: Path) -> None:
    write_preset("digits", tmp_path / "params.yaml", force=False)
    finding = hardware.weights(tmp_path / "params.yaml")
    assert finding == findings.ok("efficientnet-lite0 is installed")


@pytest.fixture
def with_inception(monkeypatch: pytest.MonkeyPatch, params: Callable[..., Params]) -> None:
    chosen = params(reference={"official": {"extractor": "inception", "input_size": 299}})
    monkeypatch.setattr(hardware, "load_params", lambda path: chosen)


@pytest.mark.usefixtures("with_inception")
def test_missing_and_damaged_inception_weights_are_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    monkeypatch.setenv(inception_weights.VARIABLE, str(path))
    with pytest.raises(FaceganError, match=r"not found; run: facegan fetch inception"):
        hardware.weights(Path())
    path.write_bytes(b"damaged")
    with pytest.raises(FaceganError, match="unexpected content"):
        hardware.weights(Path())
    monkeypatch.setattr(inception_weights, "SHA256", sha256(b"damaged").hexdigest())
    assert hardware.weights(Path()).found.endswith(f"inception is at {path}")


@pytest.mark.usefixtures("with_inception")
def test_inception_weights_on_s3_are_listed_and_not_downloaded(
    proxy: Proxy, buckets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(inception_weights.VARIABLE, "s3://weights/inception.pth")
    (buckets / "weights").mkdir()
    with pytest.raises(FaceganError, match="not found"):
        hardware.weights(Path())
    (buckets / "weights" / "inception.pth").write_bytes(b"12345")
    with pytest.raises(FaceganError, match="other than expected"):
        hardware.weights(Path())
    monkeypatch.setattr(inception_weights, "SIZE", 5)
    assert "s3://weights/inception.pth" in hardware.weights(Path()).found
    assert proxy.gets("inception.pth") == []
