"""bfloat16 on devices with native support."""

from typing import Any

import pytest
import torch

from facegan.core.events import silent
from facegan.runtime import autocast
from facegan.runtime.autocast import effective_dtype


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("requested", ["bfloat16", "float32"])
def test_bfloat16_without_native_support_becomes_float32_with_a_message(
    requested: Any, native: bool, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autocast, "_has_native_bfloat16", lambda device: native)
    events: list[Any] = []
    replaced = requested == "bfloat16" and not native
    expected = "float32" if replaced else requested
    assert effective_dtype(requested, device, events.append) == expected
    texts = ["no native bfloat16 on this cpu device; using float32"]
    assert [event.text for event in events] == (texts if replaced else [])


def test_a_cpu_has_native_bfloat16_if_onednn_convolves_in_it(
    device: torch.device,
) -> None:
    x, weight = torch.zeros(1, 32, 8, 8).bfloat16(), torch.zeros(32, 32, 3, 3).bfloat16()
    with torch.profiler.profile() as profile:
        torch.nn.functional.conv2d(x, weight)
    names = {event.key for event in profile.key_averages()}
    assert autocast._has_native_bfloat16(device) == ("aten::mkldnn_convolution" in names)


@pytest.mark.parametrize(("newer", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_mps_has_bfloat16_from_macos_14_on(
    newer: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_newer(major: int, minor: int) -> bool:
        assert (major, minor) == (14, 0)
        return newer

    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", is_newer)
    assert effective_dtype("bfloat16", torch.device("mps"), silent) == expected
