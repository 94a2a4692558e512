"""Which versions trained on a photograph."""

import csv
import re
from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient

from facegan.core.errors import FaceganError
from facegan.core.parsing import parse_json
from facegan.register import registry
from facegan.register.lineage import DATASET, cached_member, run_of
from facegan.register.registry import Registry, Version

# A sha256, or the beginning of it that finds one photograph among millions.
SHA256 = re.compile(r"[0-9a-fA-F]{8,64}")
INDEX, RECORD = "index.csv", "dataset.json"  # files of the packed dataset
COLUMNS = ("path", "sha256", "status")  # of the index
MEANINGS = {"kept": "trained on it", "held-out": "held out: scored against it"}


def saw(
    client: MlflowClient, name: str, sha256: str, dataset: Path | None
) -> tuple[dict[int, str], list[int]]:
    """Look a photograph up in the datasets of all versions.

    Args:
        sha256: of the photograph's file, or the beginning of it.
        dataset: a packed dataset at hand; those of other versions are looked up in DVC's cache.
    Returns:
        Version -> what its dataset says of the photograph, and the versions whose dataset is not at
        hand.
    Raises:
        FaceganError: if `sha256` is none, `dataset` is no packed dataset, or there is no version.
    """
    if not SHA256.fullmatch(sha256):
        raise FaceganError(f"{sha256!r}: not a sha256; valid: its first 8 to 64 hexadecimal digits")
    found = registry.require_versions(client, name)
    indices = _indices(client, found, dataset)
    unknown = [n for n, v in found.versions.items() if v.tags.get(registry.DATA) not in indices]
    seen = {}
    for number, version in found.versions.items():
        index = indices.get(version.tags.get(registry.DATA, ""))
        if index is not None and (status := _status(index, sha256.lower())):
            seen[number] = status
    return seen, unknown


def _indices(client: MlflowClient, found: Registry, dataset: Path | None) -> dict[str, Path]:
    """The sha256 of a dataset's images -> its index."""
    indices = {}
    if dataset is not None:
        try:
            record: Mapping[str, str] = parse_json((dataset / RECORD).read_text("utf-8"))
            indices[record["sha256"]] = dataset / INDEX
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FaceganError(f"{dataset}: not a packed dataset ({error})") from None
    for version in found.versions.values():
        data = version.tags.get(registry.DATA, "")
        if data not in indices and (path := _cached_index(client, version)) is not None:
            indices[data] = path
    return indices


def _cached_index(client: MlflowClient, version: Version) -> Path | None:
    run = run_of(client, version)
    md5 = run.data.tags.get(DATASET, "") if run else ""
    return cached_member(md5, INDEX) if md5 else None


def _status(index: Path, sha256: str) -> str:
    """What the dataset's index says of a photograph; empty if it is not in it.

    Raises:
        FaceganError: if it is not the index of a packed dataset.
    """
    try:
        with index.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file, strict=True)
            if not set(COLUMNS) <= set(rows.fieldnames or ()):
                raise ValueError(f"its first line does not name {', '.join(COLUMNS)}")
            for row in rows:
                path, found, status = (row[column] or "" for column in COLUMNS)
                if found.startswith(sha256):
                    return f"{path}: {MEANINGS.get(status, status)}"
    except (ValueError, csv.Error) as error:
        raise FaceganError(f"{index}: not the index of a packed dataset ({error})") from None
    return ""
