"""bfloat16 where the device has it."""

from typing import Any

import pytest
import torch

from facegan.runtime import autocast
from facegan.runtime.autocast import effective_dtype


@pytest.mark.parametrize("has_it", [True, False])
@pytest.mark.parametrize("wanted", ["bfloat16", "float32"])
def test_only_bfloat16_where_there_is_none_becomes_float32_and_says_so(
    wanted: Any, has_it: bool, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autocast, "_computes_in_bfloat16", lambda device: has_it)
    events: list[Any] = []
    replaced = wanted == "bfloat16" and not has_it
    expected = "float32" if replaced else wanted
    assert effective_dtype(wanted, device, events.append) == expected
    texts = ["this cpu has no arithmetic in bfloat16; float32 takes its place"]
    assert [event.text for event in events] == (texts if replaced else [])


def test_a_processor_has_bfloat16_where_its_convolutions_are_onednns(device: torch.device) -> None:
    x, weight = torch.zeros(1, 32, 8, 8).bfloat16(), torch.zeros(32, 32, 3, 3).bfloat16()
    with torch.profiler.profile() as profile:
        torch.nn.functional.conv2d(x, weight)
    names = {event.key for event in profile.key_averages()}
    assert autocast._computes_in_bfloat16(device) == ("aten::mkldnn_convolution" in names)
