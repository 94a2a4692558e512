import io
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import cost, scaling, scaling_photographs
from benchmarks.scaling_photographs import photograph

PYTHON = sys.executable


def test_photographs_are_distinct_small_and_the_same_at_each_call(tmp_path: Path) -> None:
    scaling_photographs.write(tmp_path, 30)
    scaling_photographs.write(tmp_path, 40)
    contents = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    assert contents == [photograph(number) for number in range(40)]
    pictures = [Image.open(io.BytesIO(content)) for content in contents]
    assert {picture.size for picture in pictures} == {(89, 109)}
    assert len({picture.resize((64, 64)).tobytes() for picture in pictures}) == 40
    assert 2_000 < np.mean([len(content) for content in contents]) < 6_000


def test_a_cost_has_children_memory_and_bytes(tmp_path: Path) -> None:
    child = "import time; x = bytearray(b'1') * 200_000_000; sum(range(10**7)); time.sleep(2)"
    program = (
        f"import os, subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}]); "
        "file = open('written', 'wb'); file.write(bytes(10**7)); file.flush(); os.fsync(file)"
    )
    begun = time.monotonic()
    spent = cost.run([PYTHON, "-c", program], tmp_path / "log", cwd=tmp_path)
    assert 0 < spent.wall <= time.monotonic() - begun
    assert spent.cpu > 0.1
    assert 200e6 < spent.memory < 300e6
    assert 10**7 <= spent.written < 2 * 10**7


def test_a_command_is_stopped_once_it_has_had_its_cpu_time(tmp_path: Path) -> None:
    program = (
        "import itertools\n"
        "for n in itertools.count(1):\n"
        "    sum(range(10**6)); print(f'work: {n:,}/1,000,000', flush=True)"
    )
    spent = cost.run([PYTHON, "-c", program], tmp_path / "log", limit=1.0)
    assert 1.0 < spent.cpu < 10.0
    assert spent.total == 1_000_000
    cpu, wall = spent.per_image()
    # CPU time has steps of a hundredth of a second, and is read after the wall time.
    assert 0.002 < cpu < 1.2 * wall


def test_a_command_that_fails_is_an_error_with_its_output(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        cost.run([PYTHON, "-c", "raise SystemExit('out of luck')"], tmp_path / "log")
    assert caught.value.output == "out of luck\n"


@pytest.mark.faults
def test_generated_photographs_are_packed_alike_from_a_folder_and_from_zips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling_photographs, "ARCHIVE", 120)
    arrays = []
    for part in (scaling.preprocess, scaling.archives):
        lines = list(part(tmp_path, (200,), 1.0))
        assert lines[-1].name.startswith("preprocess, ")
        arrays.append(np.load(tmp_path / "dataset-200" / "images.npy"))
        report = json.loads((tmp_path / "dataset-200" / "report.json").read_text())
        assert report["statuses"].keys() == {"kept", "held-out"}
    assert [line.name for line in lines[:2]] == ["dvc zips: add, 200", "dvc zips: status, 200"]
    assert np.array_equal(*arrays)
