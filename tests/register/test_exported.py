"""The folder of an exported version, as a copy, a person or a stranger may have changed it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.register.exported import MODEL, RECORD, Exported, contents
from facegan.register.files import EXPORTED, EXTRA, NETWORKS

GENERATOR = f"{EXTRA}/generator.safetensors"


@pytest.fixture(name="folder")
def make_folder(tmp_path: Path) -> Path:
    model = tmp_path / MODEL
    (model / EXTRA).mkdir(parents=True)
    for name in (EXPORTED, *(f"{EXTRA}/{name}" for name in NETWORKS)):
        (model / name).write_text(name)
    tags = {tag: file_sha256(model / EXTRA / name) for name, tag in NETWORKS.items()}
    record = Exported(
        name="faces", version=3, tags=tags, description="# faces\n", run="0123", params={},
        metrics={"fid": float("nan"), "recall": 0.5}, run_tags={},
        sha256={p.relative_to(model).as_posix(): file_sha256(p) for p in contents(model)},
    )  # fmt: skip
    record.write(tmp_path)
    return tmp_path


def edit(folder: Path, key: str, value: Any) -> None:
    record = json.loads((folder / RECORD).read_text())
    record[key] = value
    (folder / RECORD).write_text(json.dumps(record))


def refused(folder: Path) -> str:
    with pytest.raises(FaceganError) as caught:
        Exported.read(folder)
    (line,) = str(caught.value).splitlines()
    return line.removeprefix(str(folder))


def test_what_was_exported_is_read(folder: Path) -> None:
    record = Exported.read(folder)
    assert record.origin == "faces version 3"
    assert str(record.metrics) == "{'fid': nan, 'recall': 0.5}"


@pytest.mark.parametrize("value", [None, 5, [], "", {"a": 5}])
@pytest.mark.parametrize("key", ["tags", "params", "metrics", "run_tags", "sha256"])
def test_an_edited_record_is_one_line(key: str, value: Any, folder: Path) -> None:
    if (key, value) == ("metrics", {"a": 5}):
        value = {"a": "5"}
    edit(folder, key, value)
    assert refused(folder).startswith(f": not a folder of models export ({RECORD}: {key}")


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "\0"])
def test_another_file_is_no_record(text: str, folder: Path) -> None:
    (folder / RECORD).write_text(text)
    assert refused(folder).startswith(f": not a folder of models export ({RECORD}: ")


def test_networks_that_are_not_the_versions_are_refused(folder: Path) -> None:
    record = json.loads((folder / RECORD).read_text())
    (folder / MODEL / GENERATOR).write_text("another")
    sha256 = file_sha256(folder / MODEL / GENERATOR)
    assert refused(folder).endswith(f"{record['sha256'][GENERATOR]}")
    edit(folder, "sha256", record["sha256"] | {GENERATOR: sha256})
    assert refused(folder).endswith(f"sha256 {sha256}, not that of tag facegan.generator")
    edit(folder, "tags", {})
    assert refused(folder).endswith("not that of tag facegan.generator")


def _more(folder: Path) -> None:
    (folder / MODEL / EXTRA / "more.pkl").write_text("")


def _link(folder: Path) -> None:
    (folder / MODEL / EXTRA / "passwd").symlink_to("/etc/passwd")


def _folder_link(folder: Path) -> None:
    (folder / MODEL / "etc").symlink_to("/etc")


@pytest.mark.parametrize("add", [_more, _link, _folder_link])
def test_files_that_were_not_exported_are_refused(
    add: Callable[[Path], None], folder: Path
) -> None:
    add(folder)
    assert refused(folder).endswith(f": not in {RECORD}; delete it, or export again")


def test_a_half_copied_folder_is_refused(folder: Path) -> None:
    (folder / MODEL / EXPORTED).unlink()
    assert refused(folder) == f"/{MODEL}/{EXPORTED}: missing; copy the folder again"


def test_files_outside_the_folder_are_not_looked_at(folder: Path) -> None:
    for name in ("/etc/passwd", f"../{RECORD}"):
        record = json.loads((folder / RECORD).read_text())
        edit(folder, "sha256", record["sha256"] | {name: "0"})
        assert refused(folder).endswith(": missing; copy the folder again")
        edit(folder, "sha256", record["sha256"])


def test_a_link_in_place_of_a_file_is_refused(folder: Path) -> None:
    path = folder / MODEL / GENERATOR
    path.rename(folder / "elsewhere")
    path.symlink_to(folder / "elsewhere")
    assert refused(folder) == f"/{MODEL}/{GENERATOR}: a link; copy the folder with its files"
