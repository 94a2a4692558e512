"""A table of variants: `tests/benchmarks/ablations/NAME.yaml`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from facegan.core.errors import FaceganError
from facegan.core.paths import require_file
from facegan.params import Params, UniqueKeyLoader, preset_text, validated

KEYS = ("preset", "conditions", "changes", "seeds", "variants")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# One dataset and one reference serve all variants.
SHARED = ("preprocess", "reference")


@dataclass(frozen=True)
class Run:
    """One training: a variant with one seed."""

    variant: str
    seed: int
    params: Params

    @property
    def name(self) -> str:
        return f"{self.variant}-{self.seed}"


@dataclass(frozen=True)
class Ablation:
    """A preset's variants, and what all of them change.

    Attributes:
        conditions: what the table's readers have to know, one line.
        changes: of all variants to the preset, by dotted keys.
        runs: by variant, then by seed.
    """

    preset: str
    conditions: str
    changes: dict[str, Any]
    runs: list[Run]


def read_ablation(path: Path) -> Ablation:
    """Read and check a table.

    Raises:
        FaceganError: if it is unusable, or the parameters of a variant are.
    """
    table = _load(path)
    preset = yaml.safe_load(preset_text(str(table["preset"])))
    preset = _changed(preset, table["changes"], f"{path}: changes: ")
    runs = [
        Run(name, seed, _params(preset, changes, seed, f"{path}: {name}: "))
        for name, changes in table["variants"].items()
        for seed in table["seeds"]
    ]
    for run in runs:
        for section in SHARED:
            if getattr(run.params, section) != getattr(runs[0].params, section):
                raise FaceganError(
                    f"{path}: {run.variant}: changes {section}, which all variants share"
                )
    return Ablation(table["preset"], table["conditions"], table["changes"], runs)


def _load(path: Path) -> dict[str, Any]:
    require_file(path, "a table of variants, such as tests/benchmarks/ablations/celeba64-gpu.yaml")
    try:
        table = yaml.load(path.read_text("utf-8"), UniqueKeyLoader)
    except OSError as error:
        raise FaceganError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FaceganError(f"{path}: invalid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(table, dict) or set(table) != set(KEYS):
        raise FaceganError(f"{path}: expected a mapping with the keys {', '.join(KEYS)}")
    conditions, shared, seeds, variants = (table[key] for key in KEYS[1:])
    if not isinstance(conditions, str) or len(conditions.splitlines()) != 1:
        raise FaceganError(f"{path}: conditions: expected one line of text")
    if not isinstance(shared, dict):
        raise FaceganError(f"{path}: changes: expected a mapping; {{}} for none")
    if not isinstance(seeds, list) or not seeds or len(set(map(str, seeds))) < len(seeds):
        raise FaceganError(f"{path}: seeds: {seeds!r}: expected different numbers: [0, 1]")
    if not isinstance(variants, dict) or not variants:
        raise FaceganError(f"{path}: variants: expected a mapping: NAME: {{train.lr: 0.001}}")
    for name, changes in variants.items():
        if not NAME.fullmatch(str(name)):
            raise FaceganError(f"{path}: {name!r}: valid names: letters, digits, '.', '_' and '-'")
        if not isinstance(changes, dict):
            raise FaceganError(f"{path}: {name}: expected a mapping; {{}} for the preset itself")
    return {**table, "variants": {str(name): changes for name, changes in variants.items()}}


def _params(preset: dict[str, Any], changes: dict[Any, Any], seed: Any, prefix: str) -> Params:
    content = {**_changed(preset, changes, prefix), "seed": seed}
    return validated(content, prefix)


def _changed(content: dict[str, Any], changes: dict[Any, Any], prefix: str) -> dict[str, Any]:
    """Parameters updated with `changes`, whose keys are dotted."""
    for key, value in changes.items():
        if key == "seed":
            raise FaceganError(f"{prefix}seed: set the table's seeds instead")
        content = _updated(content, str(key).split("."), value)
    return content


def _updated(content: Any, keys: list[str], value: Any) -> Any:
    if not keys:
        return value
    first, *rest = keys
    # What is below a plain value gets it replaced by a mapping, which is invalid there.
    base = content if isinstance(content, dict) else {}
    return {**base, first: _updated(base.get(first), rest, value)}
