"""The identity of a training: all that its output depends on, and what of it may change."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

# Parts of an identity that change the bytes of the outputs, and nothing that is learnt.
ENVIRONMENT = frozenset({"torch", "pillow", "device", "dtype", "threads", "processes"})
# Parts that change when and how the quick FID is computed, and nothing that is learnt.
SCORING = frozenset({"quick", "train.eval_interval", "train.quick_num_samples"})
# Parts after whose change earlier quick FIDs are not comparable.
RESCORING = SCORING - {"train.eval_interval"}
# Only on request, because an edit may change what is learnt.
CODE = frozenset({"code"})

# Name of what differs -> its value in the last run and its value now.
Changes = dict[str, tuple[Any, Any]]
Event = Mapping[str, Any]


def changes(
    identity: dict[str, Any], requested: dict[str, Any], events: Iterable[Event] = ()
) -> Changes:
    """What differs in `requested` from a training's last run.

    Args:
        identity: with which the training began; parameters are below `params`.
        events: its history, which has the changes since then.
    Returns:
        Both values by name, as in params.yaml: `train.lr`.
    """
    last, now = _flattened(identity), _flattened(requested)
    for event in resumes(events):
        last |= {name: value for name, (_, value) in event["changed"].items()}
    names = [name for name in {**now, **last} if last.get(name) != now.get(name)]
    return {name: (last.get(name), now.get(name)) for name in names}


def resumes(events: Iterable[Event]) -> list[Event]:
    """The events of a history at which something changed."""
    return [event for event in events if event.get("event") == "resume"]


def describe(differences: Changes) -> str:
    """All names with both values: "train.lr is 0.002, was 0.001"."""
    return ", ".join(
        f"{name} is {_short(now)}, was {_short(last)}" for name, (last, now) in differences.items()
    )


def undo(differences: Changes) -> str:
    """What a user has to do so that nothing differs that is learnt from; empty for nothing."""
    params = {
        name: last
        for name, (last, _) in differences.items()
        if name == "seed" or (name.startswith("train.") and name not in SCORING)
    }
    steps = []
    if "data" in differences:
        steps.append("restore its dataset (git checkout of data.dvc, dvc checkout)")
    if any(name.startswith("init_from") for name in differences):
        steps.append("restore the networks that it started from")
    if params:
        values = ", ".join(f"{name}: {_yaml(last)}" for name, last in params.items())
        steps.append(f"set {values} in params.yaml")
    return " and ".join(steps)


def _flattened(identity: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in identity.items():
        if isinstance(value, dict):
            section = "train" if key == "params" else key
            values |= {f"{section}.{name}": inner for name, inner in value.items()}
        else:
            values[key] = value
    return values


def _short(value: Any) -> str:
    """A value, or the beginning of a sha256."""
    text = _yaml(value)
    return text[:12] if len(text) == 64 else text


def _yaml(value: Any) -> str:
    if isinstance(value, str):
        return value
    text = json.dumps(value)
    # YAML reads 1e-05 as a string, and 1.0e-05 as a number.
    return text.replace("e", ".0e") if isinstance(value, float) and "." not in text else text
