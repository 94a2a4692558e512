"""What made a version, with the answers of git and DVC given."""

import datetime
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from facegan.register import lineage, registry
from facegan.register.registry import Version
from registrations import NAME, Trainer

Two = tuple[MlflowClient, Trainer]
Answers = dict[str, str]
COMMIT, PHOTOGRAPHS, PHOTOGRAPH = "c" * 40, "d" * 32 + ".dir", "a" * 32
IS_HERE = f"git cat-file -t {COMMIT}^{{commit}}"
IS_PUSHED = f"git branch --remotes --contains {COMMIT}"
HERE, CACHE, REMOTES = "git rev-parse --show-toplevel", "dvc cache dir", "dvc remote list"


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    """Command -> what it prints; all others fail."""
    given: Answers = {}
    monkeypatch.setattr(lineage, "answer", lambda *command: given.get(" ".join(command), ""))
    yield given


@pytest.fixture
def cache(tmp_path: Path, answers: Answers) -> Path:
    """DVC's cache, with a folder of a photograph that it has and two that it has not."""
    folder = tmp_path / "my cache"
    listing = [{"md5": md5, "relpath": f"{md5[0]}.png"} for md5 in (PHOTOGRAPH, "b" * 32, "e" * 32)]
    for name in (PHOTOGRAPH, PHOTOGRAPHS):
        path = folder / "files" / "md5" / name[:2] / name[2:]
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(listing))
    answers[CACHE] = str(folder)
    return folder


def tagged(two: Two, **tags: str) -> Version:
    """The first version, with `tags` of its run."""
    version = registry.read(two[0], NAME).versions[1]
    for key, value in tags.items():
        two[0].set_tag(version.run, key, value)
    return version


def commands(two: Two) -> list[str]:
    return lineage.lineage(two[0], NAME, 1)[1]


def test_what_is_on_record_are_rows(two: Two, answers: Answers) -> None:
    client, _ = two
    tags = {
        "facegan.versions": "torch 2", lineage.DEVICE: "cpu", lineage.THREADS: "3",
        "facegan.machine": "x86_64", "mlflow.user": "ada", lineage.DATASET: "e" * 32,
        lineage.COMMIT: COMMIT, lineage.PHOTOGRAPHS: PHOTOGRAPHS,
    }  # fmt: skip
    version = tagged(two, **tags)
    rows, _, _ = lineage.lineage(client, NAME, 1)
    date = datetime.datetime.fromtimestamp(version.created / 1000, datetime.UTC)
    protocol = version.tags[registry.PROTOCOL]
    assert rows == [
        ("generator", version.tags[registry.GENERATOR]),
        ("registered", f"{date:%Y-%m-%d %H:%M} UTC"),
        ("commit", COMMIT),
        ("photographs", PHOTOGRAPHS),
        ("images.npy", version.tags[registry.DATA]),
        ("run", version.run),
        ("versions", "torch 2"), ("device", "cpu"), ("threads", "3"), ("machine", "x86_64"),
        ("user", "ada"),
        ("dvc.data.data", PHOTOGRAPHS), ("dvc.preprocess.dataset", "e" * 32),
        *sorted(client.get_run(version.run).data.params.items()),
        (f"scores.{protocol}", version.tags[registry.SCORES + protocol]),
    ]  # fmt: skip
    tagged(two, **{lineage.DIRTY: "true"})
    assert ("commit", f"{COMMIT} with uncommitted changes") in lineage.lineage(client, NAME, 1)[0]


def test_what_is_not_on_record_is_said(two: Two, answers: Answers) -> None:
    client, _ = two
    answers["git log -S none --format=%H -- *metrics.json"] = COMMIT  # of any file with "none"
    run = registry.read(client, NAME).versions[1].run
    client.delete_run(run)
    for tag in (registry.GENERATOR, registry.DATA):
        client.delete_model_version_tag(NAME, "1", tag)
    rows, commands, missing = lineage.lineage(client, NAME, 1)
    found = dict(rows)
    assert (found["generator"], found["images.npy"], found["commit"]) == ("unknown", "unknown", "")
    assert found["photographs"] == "DVC's hash is not recorded"
    assert found["run"] == f"{run} is deleted" and "train.lr" not in found
    assert commands == [
        "git clone REPOSITORY again && cd again",
        "git checkout COMMIT",
        "make install && . .venv/bin/activate",
        "dvc pull data.dvc",
        "dvc repro --force evaluate  # without --force, DVC restores outputs that it has",
        "sha256sum artifacts/train/generator.safetensors  # ",
    ]
    assert missing == [
        "the commit is not on record, and no commit here has this generator's scores",
        "DVC's hash of the photographs is not on record; the commit's data.dvc has it",
    ]


def test_a_commit_that_is_not_on_record_is_the_first_one_with_the_scores_of_the_generator(
    two: Two, answers: Answers
) -> None:
    version = tagged(two)
    sha256 = version.tags[registry.GENERATOR]
    answers[f"git log -S {sha256} --format=%H -- *metrics.json"] = f"{'f' * 40}\n{COMMIT}"
    assert ("commit", COMMIT) in lineage.lineage(two[0], NAME, 1)[0]


def test_commands_repeat_what_is_only_here(two: Two, answers: Answers, cache: Path) -> None:
    """A commit that is not pushed, its uncommitted changes, a cache without a remote, a device."""
    version = tagged(
        two, **{
            lineage.COMMIT: COMMIT, lineage.DIRTY: "true", lineage.REPOSITORY: "https://b.org/x",
            lineage.DEVICE: "cuda NVIDIA H200", lineage.THREADS: "3",
            lineage.PHOTOGRAPHS: PHOTOGRAPH,
        }
    )  # fmt: skip
    two[0].log_text(version.run, "diff", "provenance/uncommitted.diff")
    answers |= {IS_HERE: "commit", HERE: "/my project"}
    _, commands, missing = lineage.lineage(two[0], NAME, 1)
    assert commands == [
        "git clone '/my project' again && cd again",
        f"git checkout {COMMIT}",
        "make install && . .venv/bin/activate",
        f"MLFLOW_TRACKING_URI={two[0].tracking_uri} "
        f"mlflow artifacts download -r {version.run} -a provenance -d .",
        "git apply provenance/uncommitted.diff",
        f"dvc cache dir --local '{cache}'  # there is no remote to pull from",
        "dvc checkout data.dvc",
        "FACEGAN_DEVICE=cuda OMP_NUM_THREADS=3 dvc repro --force evaluate  "
        "# without --force, DVC restores outputs that it has",
        "sha256sum artifacts/train/generator.safetensors  # " + version.tags[registry.GENERATOR],
    ]
    assert missing == []


def test_a_commit_that_is_pushed_comes_from_its_origin_and_photographs_from_the_remote(
    two: Two, answers: Answers, cache: Path
) -> None:
    origin = "https://***@example.com/faces.git"
    tagged(two, **{lineage.COMMIT: COMMIT, lineage.REPOSITORY: origin})
    answers |= {HERE: "/here", REMOTES: "storage\ts3://bucket"}
    expected = "git clone https://example.com/faces.git again && cd again"
    for known in ({}, {IS_HERE: "commit", IS_PUSHED: "origin/main"}):
        answers |= known
        assert commands(two)[0] == expected
        assert commands(two)[3] == "dvc pull data.dvc"
    tagged(two, **{lineage.REPOSITORY: ""})
    assert commands(two)[0] == "git clone /here again && cd again"
    answers[IS_HERE] = "blob"
    assert lineage.lineage(two[0], NAME, 1)[2][0].startswith(f"commit {COMMIT[:12]} is not")


def test_what_is_not_at_hand_is_named(two: Two, answers: Answers, cache: Path) -> None:
    def missing(md5: str) -> list[str]:
        tagged(two, **{lineage.PHOTOGRAPHS: md5})
        return lineage.lineage(two[0], NAME, 1)[2]

    tagged(two, **{lineage.COMMIT: COMMIT, lineage.DIRTY: "true"})
    others = [
        f"commit {COMMIT[:12]} is not in this repository; git fetch --all may bring it",
        "the uncommitted changes are not on record",
    ]
    may = "in DVC's cache; dvc fetch may bring them"
    assert missing(PHOTOGRAPHS) == [*others, f"2 of 3 photographs {PHOTOGRAPHS} are not {may}"]
    assert missing("f" * 32) == [*others, f"photographs {'f' * 32} are not {may}"]
    assert missing(PHOTOGRAPH) == others
    for path in cache.rglob("*.dir"):
        path.write_text(json.dumps([{"md5": PHOTOGRAPH, "relpath": "a.png"}]))
    assert missing(PHOTOGRAPHS) == others


def test_photographs_are_found_in_dvcs_cache_by_their_names(cache: Path, answers: Answers) -> None:
    path = cache / "files" / "md5" / PHOTOGRAPH[:2] / PHOTOGRAPH[2:]
    assert lineage.cached(PHOTOGRAPH) == lineage.cached_member(PHOTOGRAPHS, "a.png") == path
    assert lineage.cached_member(PHOTOGRAPHS, "b.png") is None  # not in the cache
    assert lineage.cached_member(PHOTOGRAPHS, "other.png") is None
    assert lineage.cached_member("f" * 32, "a.png") is None
    del answers[CACHE]
    assert lineage.cached(PHOTOGRAPH) is None


def test_a_server_that_fails_is_not_a_run_that_is_gone(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, version = two[0], tagged(two)
    found = lineage.run_of(client, version)
    assert found is not None and found.info.run_id == version.run
    assert lineage.run_of(client, replace(version, run="")) is None
    assert lineage.run_of(client, replace(version, run="0" * 32)) is None

    def deny(run_id: str) -> None:  # as MLflow's authentication does
        raise MlflowException("Permission denied", PERMISSION_DENIED)

    with monkeypatch.context() as patch:
        patch.setattr(client, "get_run", deny)
        assert lineage.run_of(client, version) is None

    def fail(run_id: str) -> None:
        raise MlflowException("out of order")

    monkeypatch.setattr(client, "get_run", fail)
    with pytest.raises(MlflowException, match="out of order"):
        lineage.run_of(client, version)
