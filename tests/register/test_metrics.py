"""`metrics.json` as registering reads it."""

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import make_params
from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.register.gate import decide, read_candidate
from facegan.register.metrics import read_metrics
from registrations import Trainer

FID = "fid40_efficientnet-lite0-32"
Files = tuple[Path, Path, Path]


@pytest.fixture(name="files")
def make_files(tmp_path: Path, references: tuple[Path, Path]) -> Files:
    folder, metrics = Trainer(tmp_path, references[1]).train(1, fid=50.0)
    return metrics, folder, references[1]


def edit(files: Files, key: str, text: str | None) -> None:
    """Set a key, of the protocol with a dot, to JSON; None: delete it."""
    content = json.loads(files[0].read_text())
    section: dict[str, Any] = content
    for name in key.split(".")[:-1]:
        section = section[name]
    name = key.rpartition(".")[2]
    section.pop(name, None)
    if text is not None:
        section[name] = json.loads(text)
    files[0].write_text(json.dumps(content))


def test_what_evaluate_wrote_is_read_as_it_is(files: Files) -> None:
    assert read_metrics(*files) == json.loads(files[0].read_text())
    edit(files, "reference", json.dumps(file_sha256(files[2])))
    assert read_metrics(*files)["reference"] == file_sha256(files[2])


@pytest.mark.parametrize("name", ["precision", "recall", "memorised"])
def test_a_share_of_few_images_may_have_a_standard_error_above_1(name: str, files: Files) -> None:
    key = f"{name}_efficientnet-lite0-32_stderr"
    edit(files, key, "1.374773")
    assert read_metrics(*files)[key] == 1.374773


@pytest.mark.parametrize(
    ("key", "text", "reason"),
    [
        *(
            (key, None, f"{key} is missing")
            for key in (
                FID, f"{FID}_spread", "untrained", "floor", "images_seen", "generator", "protocol",
                "protocol.id", "protocol.seeds", "protocol.shape", "protocol.data",
                "protocol.comparability_note", "protocol.dtype",
            )
        ),
        *((FID, text, f"{FID} ") for text in ('"50"', "true", "[]", "1" + "0" * 400)),
        ("untrained_fids", "[]", "untrained_fids '[]': List should have at least 1 item"),
        ("protocol.seeds", "[]", "protocol.seeds '[]': List should have at least 1 item"),
        ("protocol.seeds", '"abc"', "protocol.seeds 'abc': Input should be a valid array"),
        ("protocol.id", "5", "protocol.id '5': Input should be a valid string"),
        ("protocol.id", '"a/b"', "protocol.id 'a/b': String should match pattern"),
        ("protocol.shape", "[32, 32]", "protocol.shape.2 is missing"),
        ("images_seen", "Infinity", "images_seen 'inf': Input should be a valid integer"),
        ("images_seen", "-1", "images_seen '-1': Input should be greater than or equal to 0"),
        ("sample_metrics", "[]", "sample_metrics '[]': Input should be an object"),
        *(
            (f"{name}_efficientnet-lite0-32", text, f"{name}_efficientnet-lite0-32 ")
            for name in ("precision", "recall", "memorised")
            for text in ("-0.1", "1.1", "NaN", "Infinity", "null")
        ),
        *(
            ("recall_efficientnet-lite0-32_stderr", text, "recall_efficientnet-lite0-32_stderr ")
            for text in ("-0.1", "null", '"0.1"', "NaN")
        ),
    ],
)  # fmt: skip
def test_an_invalid_value_is_one_line(
    key: str, text: str | None, reason: str, files: Files
) -> None:
    edit(files, key, text)
    with pytest.raises(FaceganError) as caught:
        read_metrics(*files)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{files[0]}: no scores ({reason}")
    assert line.endswith("); run: dvc repro evaluate")


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 5000, '"\\ud800"'])
def test_what_is_no_record_of_scores_is_one_line(text: str, files: Files) -> None:
    files[0].write_text(text)
    with pytest.raises(FaceganError, match=r"metrics.json: no scores \(.*; run: dvc repro eval"):
        read_metrics(*files)


def test_a_folder_in_place_of_the_scores_is_refused_with_what_was_expected(files: Files) -> None:
    with pytest.raises(
        FaceganError, match=r"is a folder; expected metrics\.json, which facegan ev"
    ):
        read_metrics(files[1], *files[1:])


@pytest.mark.parametrize("key", [FID, f"{FID}_spread", "untrained", "untrained_spread"])
@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e200"])
def test_the_gate_refuses_scores_that_are_no_numbers(key: str, text: str, files: Files) -> None:
    edit(files, key, text)
    candidate = read_candidate(read_metrics(*files), files[1])
    policy = make_params().register_.policy
    assert not decide(candidate, None, policy).passed or (key, text) == ("untrained", "1e200")
