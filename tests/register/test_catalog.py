"""Looking at versions and going back, with the `models` commands as people run them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image
from typer.testing import CliRunner

from facegan.cli.main import app
from facegan.cli.models import print_table
from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.register import card, catalog, history, lineage, registry, versions
from registrations import NAME, Trainer, delete_run_for_good, roles
from stores import Store

Two = tuple[MlflowClient, Trainer]


def models(*arguments: object) -> str:
    result = CliRunner(env={"COLUMNS": "250", "FACEGAN_DEVICE": "cpu"}).invoke(
        app, ["models", *map(str, arguments)]
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_row_of_the_table_is_a_line_of_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = ("204.5 ± 6.8", "0.123", "0.0123")
    row = ("23", "Production", "challenger", *scores, "6ba112", "1f29a6f", "2026-11-28")
    monkeypatch.setenv("COLUMNS", "80")
    print_table(catalog.COLUMNS, [row], "fid40_efficientnet-lite0-224, protocol 6b0a4a2e")
    assert capsys.readouterr().out.splitlines()[-1].split() == " ".join(row).split()


def test_names_and_values_are_whole_in_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"fid2k_efficientnet-lite0-112_{end}" for end in ("heldout", "train")]
    monkeypatch.setenv("COLUMNS", "80")
    print_table(("", "version 2", "version 3"), [(name, "a" * 64, "b" * 64) for name in names])
    text = capsys.readouterr().out
    rows = [[line[i : i + 26].strip() for i in (0, 27, 54)] for line in text.splitlines()]
    assert "".join(row[0] for row in rows[2:]) == "".join(names)
    assert text.count("a") >= 2 * 64


def test_the_table_has_role_scores_and_origin(two: Two) -> None:
    lines = [" ".join(line.split()) for line in models().splitlines()]
    assert lines[0].startswith("fid40_efficientnet-lite0-32, protocol ")
    rows = [line for line in lines if line[:1].isdigit()]
    assert rows[0].startswith("2 Staging challenger 60 ± 0 0.5 0.01 ")
    assert rows[1].startswith("1 Production champion 50 ± 0 0.5 0.01 ")


def test_where_there_is_no_plus_minus_the_table_has_another_character(two: Two) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "250"}
    command = [sys.executable, "-m", "facegan", "models"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "|50 ? 0|" in done.stdout


def test_a_full_standard_output_is_not_taken_for_a_full_store(two: Two) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "facegan", "models"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "facegan: No space left on device"


def test_a_model_without_versions_is_one_line(two: Two) -> None:
    commands = ((), ("show", 1), ("lineage", 1), ("rollback",), ("history",), ("saw", "a" * 64))
    for command in commands:
        with pytest.raises(FaceganError, match=r"^nothing\b.*(no version|no champion)"):
            models(*command, "--name", "nothing") if command else models("--name", "nothing")


def test_show_has_the_decision_and_the_card(two: Two) -> None:
    client, _ = two
    text = models("show", 1)
    assert text.startswith("champion: ")
    for part in ("32x32 grey images", "MNIST, CC BY-SA 3.0", "| memorised | 0.01 |", "lr 0.1"):
        assert part in text
    assert "**Generates**" in registry.read(client, NAME).versions[1].description


def test_a_card_shows_the_snapshots_samples(tmp_path: Path, two: Two) -> None:
    folder, metrics = two[1].train(1, fid=50.0)
    content = json.loads(metrics.read_text())
    text = card.text(NAME, "my own", content, folder)
    assert card.write(tmp_path, text, content, folder) == [tmp_path / "card.md"]
    assert "held-out photographs" not in text
    metric = content["protocol"]["name"]
    held_out = content | {f"{metric}_heldout": 70.5, f"{metric}_train": 61.0}
    text = card.text(NAME, "my own", held_out, folder)
    assert "| FID against held-out photographs | 70.5 |" in text
    assert "| FID against as many training ones | 61 |" in text
    (folder / "samples").mkdir()
    (folder / "samples" / "0000000001.png").write_bytes(b"png")
    assert (tmp_path / "samples.png") in card.write(tmp_path, text, content, folder)
    assert "![samples](samples.png)" in (tmp_path / "card.md").read_text()


def test_a_rollback_holds_until_a_better_version(two: Two) -> None:
    client, register = two
    register(3, fid=40.0)
    assert "version 1: stage Production (was Archived)" in models("rollback")
    expected = {
        1: ("Production", ("champion",)),
        2: ("Staging", ("challenger",)),
        3: ("Archived", ("previous",)),
    }
    assert roles(client) == expected
    assert register(3, fid=40.0).messages == ()
    assert roles(client) == expected
    assert register(4, fid=48.0).aliases == ("champion",)  # better than 50, not than 40
    lines = models("history").splitlines()
    assert [re.findall(r"version (\d)", line)[0] for line in lines] == ["4", "1", "3", "1"]
    assert "over version 3" in lines[1] and "facegan models rollback" in lines[1]
    with pytest.raises(FaceganError, match="version 4 is champion already"):
        models("rollback", 4)
    with pytest.raises(FaceganError, match="has no version 9; the last ones: 1, 2, 3, 4"):
        models("rollback", 9)


def test_no_version_is_missed_on_a_further_page(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = two
    whole = registry.read(client, NAME)
    monkeypatch.setattr(registry, "PAGE", 1)
    assert registry.read(client, NAME) == whole
    assert len(whole.versions) > 1


def test_history_has_promotions_that_are_no_longer_tags(two: Two) -> None:
    client, register = two
    register(3, fid=40.0)
    oldest = min(registry.read(client, NAME).promotions, key=lambda entry: entry.turn)
    client.delete_registered_model_tag(NAME, oldest.key)
    # MLflow caches a run's folder by its id, so that other tests' promotions may follow.
    assert [entry.version for entry in history.read(registry.read(client, NAME))][:2] == [1, 3]


def test_approval_promotes_the_version_that_was_compared(two: Two) -> None:
    client, register = two
    register.with_policy(approval="manual")
    for seed, fid in ((3, 40.0), (4, 30.0)):
        register(seed, fid)
    assert "version 3: stage Production" in models("approve", 3)
    assert client.get_model_version(NAME, "3").tags["facegan.gate"].startswith("champion: ")
    with pytest.raises(FaceganError, match="4 is approved, but version 3 became champion"):
        models("approve", 4)
    assert register(4, fid=30.0).aliases == ("champion",)
    with pytest.raises(FaceganError, match="version 1 does not await approval"):
        models("approve", 1)


def test_a_difference_has_parameters_scores_and_a_picture(two: Two, tmp_path: Path) -> None:
    client, _ = two
    client.log_metric(registry.read(client, NAME).versions[1].run, "system/cpu_percent", 50)
    text = models("diff", 1, 2, "--out", tmp_path / "both.png")
    assert "system/" not in text  # of the machine
    assert re.search(r"train\.lr +0\.1 +0\.2", text)
    assert re.search(r"fid +50\.0 +60\.0", text)
    with Image.open(tmp_path / "both.png") as picture:
        assert picture.size == (4 * 32 * 2 + 8, 4 * 32)


def test_lineage_names_what_is_not_at_hand(two: Two) -> None:
    client, _ = two
    version = registry.read(client, NAME).versions[1]
    commit, sha256 = "c" * 40, version.tags[registry.GENERATOR]
    tags = {
        "mlflow.source.git.commit": commit,
        "facegan.dirty": "true",
        "facegan.dvc.data.data": "d" * 32 + ".dir",
        lineage.THREADS: "2; touch evil",  # others can write to MLflow, and the command is copied
    }
    for key, value in tags.items():
        client.set_tag(version.run, key, value)
    text = models("lineage", 1)
    assert f"commit: {commit} with uncommitted changes" in text
    assert f"  git checkout {commit}\n" in text and "git apply provenance/" in text
    assert "OMP_NUM_THREADS='2; touch evil' dvc repro" in text
    assert f"# {sha256}" in text and "train.lr: 0.1" in text
    assert f"not at hand: commit {commit[:12]} is not in this repository" in text
    assert f"not at hand: photographs {'d' * 32}.dir are not in DVC's cache" in text


def test_lineage_counts_photographs_that_are_not_at_hand(
    two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = two
    files = tmp_path / "files/md5"
    hashes = ["a" * 32, "b" * 32]
    listing = [{"md5": md5, "relpath": f"{md5[0]}.png"} for md5 in hashes]
    for name in (hashes[0], "d" * 32 + ".dir"):
        path = files / name[:2] / name[2:]
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(listing))
    monkeypatch.setattr(lineage, "cached", lambda md5: files / md5[:2] / md5[2:])
    version = registry.read(client, NAME).versions[1]
    client.set_tag(version.run, lineage.PHOTOGRAPHS, "d" * 32 + ".dir")
    _, _, missing = lineage.lineage(client, NAME, 1)
    assert missing[-1].startswith(f"1 of 2 photographs {'d' * 32}.dir are not in DVC's cache")


@pytest.mark.faults
def test_lineages_commands_run_as_printed_in_an_empty_folder(
    two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = two
    here, empty, tools = (tmp_path / name for name in ("my project", "empty", "tools"))
    for folder in (here, empty, tools):
        folder.mkdir()
    monkeypatch.chdir(here)
    (here / "code.py").write_text("lr = 1\n")
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    git("init", "--quiet")
    git("add", "code.py")
    git(*identity, "commit", "--quiet", "--message", "not pushed")
    (here / "code.py").write_text("lr = 2\n")
    run = registry.read(client, NAME).versions[1].run
    client.log_text(run, git("diff"), "provenance/uncommitted.diff")
    tags = {
        "mlflow.source.git.commit": git("rev-parse", "HEAD").strip(),
        "mlflow.source.git.repoURL": "https://***@example.com/faces.git",
        "facegan.dirty": "true",
        "facegan.device": "cpu",
        "facegan.threads": "3",
    }
    for key, value in tags.items():
        client.set_tag(run, key, value)
    text = models("lineage", 1, "--params", tmp_path / "params.yaml")
    commands = [line for line in text.splitlines() if line.startswith("  ")]
    for name, script in {
        "make": "mkdir -p .venv/bin && touch .venv/bin/activate",
        "dvc": 'echo "$FACEGAN_DEVICE $OMP_NUM_THREADS $*" >> ../dvc.log',
        "sha256sum": "",
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    environment["PATH"] = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = "\n".join(commands)
    subprocess.run(["bash", "-e"], input=script, cwd=empty, env=environment, text=True, check=True)
    assert (empty / "again/code.py").read_text() == "lr = 2\n"
    assert (empty / "dvc.log").read_text().splitlines()[-1] == "cpu 3 repro --force evaluate"
    assert "not at hand: the uncommitted changes" not in text


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


def test_a_version_whose_run_is_gone_is_promoted_and_traced_all_the_same(two: Two) -> None:
    client, _ = two
    run = registry.read(client, NAME).versions[2].run
    delete_run_for_good(client, run)
    assert "version 2: stage Production" in models("rollback", 2)
    assert f"run: {run} is deleted" in models("lineage", 2)


def test_an_exported_version_is_imported_elsewhere_with_its_files(two: Two, tmp_path: Path) -> None:
    client, _ = two
    models("export", 1, tmp_path / "out")
    with pytest.raises(FaceganError, match="out: exists; name another folder"):
        models("export", 1, tmp_path / "out")
    assert "registered already" in models("import", tmp_path / "out")
    assert "version 1: imported" in models("import", tmp_path / "out", "--name", "elsewhere")
    version = registry.read(client, "elsewhere").versions[1]
    original = registry.read(client, NAME).versions[1]
    assert version.tags[registry.GENERATOR] == original.tags[registry.GENERATOR]
    assert registry.GATE not in version.tags
    first, card = version.description.split("\n\n", 1)
    assert re.fullmatch(rf"imported \S+ \S+ from {NAME} version 1, run {original.run[:8]}", first)
    assert original.description.startswith("champion: ")
    assert card.startswith("# elsewhere\n") and NAME not in card
    assert original.description.endswith(card.replace("elsewhere", NAME))
    shown = models("show", 1, "--name", "elsewhere")
    assert "models:/elsewhere/Production" in shown and NAME not in shown
    assert client.get_run(version.run).data.params["train.lr"] == "0.1"
    folder = versions.download_networks("models:/elsewhere/1", tmp_path)
    assert file_sha256(folder / "generator.safetensors") == version.tags[registry.GENERATOR]
    (file,) = (tmp_path / "out").rglob("generator.safetensors")
    file.write_bytes(b"")
    with pytest.raises(FaceganError, match=r"generator\.safetensors: sha256 is .* version\.json"):
        models("import", tmp_path / "out", "--name", "third")


def test_a_name_may_have_quotes_of_one_kind(two: Two, tmp_path: Path) -> None:
    models("export", 1, tmp_path / "exported")
    for name in ("it's", 'the "best"', "per%cent"):
        assert "version 1: imported" in models("import", tmp_path / "exported", "--name", name)
        assert "registered already" in models("import", tmp_path / "exported", "--name", name)
        models("rollback", 1, "--name", name)
        assert " Production " in models("--name", name)
        assert versions.resolve(two[0], f"models:/{name}/latest").number == 1
    with pytest.raises(FaceganError, match="both"):
        models("import", tmp_path / "exported", "--name", 'it\'s "best"')


def test_a_repaired_version_loads_again(register: Trainer, backend: Store, tmp_path: Path) -> None:
    register(1, fid=50.0)
    register.train(2, fid=60.0)
    card = _card()
    for name in backend.files("*/models/*"):
        backend.delete(name)
    with pytest.raises(FaceganError, match="facegan models repair 1 FOLDER"):
        register(1, fid=50.0)
    options = ("--params", _params(tmp_path))
    assert "facegan models repair 1 FOLDER" in models("show", 1, *options)
    with pytest.raises(FaceganError, match=r"train-2.*; the version has"):
        models("repair", 1, tmp_path / "train-2", *options)
    models("repair", 1, tmp_path / "train-1", *options)
    assert register(1, fid=50.0).aliases == ("champion",)
    assert "facegan models repair" not in models("show", 1, *options)
    assert versions.download_networks(f"models:/{NAME}/1", tmp_path).is_dir()
    assert _card() == card


def _card() -> str:
    return mlflow.artifacts.load_text(f"models:/{NAME}/1/extra_files/card.md")


def test_a_version_without_its_exported_model_is_exported_again_from_its_networks(
    register: Trainer, backend: Store, tmp_path: Path
) -> None:
    register(1, fid=50.0)
    for name in backend.files("*/data/*"):
        backend.delete(name)
    with pytest.raises(FaceganError, match=r"model\.pt2 missing .* facegan models repair 1 FOLDER"):
        register(1, fid=50.0)
    models("repair", 1, "--params", _params(tmp_path))
    assert register(1, fid=50.0).aliases == ("champion",)
    assert (
        mlflow.pyfunc.load_model(f"models:/{NAME}/1")
        .predict(np.zeros((2, 10), np.float32))
        .shape[0]
        == 2
    )


def _params(folder: Path) -> Path:
    from facegan.params import preset_text

    path = folder / "params.yaml"
    path.write_text(preset_text("digits").replace("facegan-digits", NAME))
    return path


def test_saw_names_the_versions_that_trained_on_a_photograph(two: Two, tmp_path: Path) -> None:
    client, register = two
    data = client.get_model_version(NAME, "1").tags[registry.DATA]
    register(3, fid=40.0, protocol={"data": "other"})
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    (dataset / "dataset.json").write_text(json.dumps({"sha256": data}))
    rows = ("path,sha256,status", f"a.jpg,{'a' * 64},kept", f"b.jpg,{'b' * 64},held-out")
    (dataset / "index.csv").write_text("\n".join(rows))
    option = ("--dataset", dataset)
    text = models("saw", "A" * 10, *option)
    assert text.splitlines()[:2] == [f"version {n}: a.jpg: trained on it" for n in (1, 2)]
    assert "unknown, because their datasets are not at hand (dvc fetch): 3" in text
    assert "version 2: b.jpg: held out: scored against it" in models("saw", "b" * 64, *option)
    assert "no version whose dataset is at hand has it" in models("saw", "c" * 64, *option)
    for text in ("a", "z" * 64, "a" * 65, "sha256:aaaaaaaa"):
        with pytest.raises(FaceganError, match=f"'{text}': not a sha256"):
            models("saw", text, *option)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\0\0", b"sha256\nabcdef0123\n", b"path,sha256,status\n\xff,1,2\n",
        b"path,sha256,status\n" + b"x" * 200_000 + b",1,2\n",
    ],
)  # fmt: skip
def test_a_damaged_index_does_not_pass_for_one_without_the_photograph(
    content: bytes, two: Two, tmp_path: Path
) -> None:
    data = two[0].get_model_version(NAME, "1").tags[registry.DATA]
    (tmp_path / "dataset.json").write_text(json.dumps({"sha256": data}))
    (tmp_path / "index.csv").write_bytes(content)
    with pytest.raises(FaceganError, match=r"index\.csv: not the index of a packed dataset \("):
        models("saw", "abcdef01", "--dataset", tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000])
def test_a_damaged_record_of_a_dataset_is_one_line(content: str, two: Two, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(FaceganError, match=rf"^{tmp_path}: not a packed dataset \("):
        models("saw", "abcdef01", "--dataset", tmp_path)
