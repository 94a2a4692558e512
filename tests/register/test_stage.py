"""Registering and promoting generators, in a real MLflow store."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import mean

import mlflow
import pytest
import torch
from mlflow import MlflowClient

from commands import facegan
from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.evaluate.protocol import SEEDS
from facegan.evaluate.scorer import Scorer
from facegan.features.frechet import Statistics
from facegan.models.files import load_generator
from facegan.register import registry, stage
from registrations import CONFIG, NAME, Trainer, delete_run_for_good, roles
from stores import Store

Two = tuple[MlflowClient, Trainer]
FILES = ("train-1", "train-1/metrics.json", "official.safetensors")


def test_the_first_version_is_champion_and_only_a_lower_fid_replaces_it(
    register: Trainer, client: MlflowClient
) -> None:
    first = register(1, fid=50.0)
    assert first.stage == "Production" and first.messages == (f"promoted: {first.champion}",)
    worse = register(2, fid=60.0)
    assert worse.messages == ()
    assert (worse.stage, worse.aliases) == ("Staging", ("challenger",))
    assert "60 does not beat version 1's 50; not comparable with published FIDs" in worse.reason
    better = register(3, fid=40.0)
    assert (better.stage, better.aliases) == ("Production", ("champion",))
    assert roles(client) == {
        1: ("Archived", ("previous",)),
        2: ("Staging", ("challenger",)),
        3: ("Production", ("champion",)),
    }


def test_registering_again_creates_no_version_and_changes_no_role(two: Two) -> None:
    client, register = two
    before = roles(client)
    for seed, fid in ((2, 60.0), (1, 50.0)):
        again = register(seed, fid)
        assert (again.version, again.messages) == (seed, ())
    assert roles(client) == before


def test_another_training_of_the_same_generator_is_no_version_but_has_its_scores(two: Two) -> None:
    client, register = two
    folder, _ = register.train(2, fid=60.0)
    again = folder.with_name("again")
    shutil.copytree(folder, again)
    history = again / "history.jsonl"
    history.write_text(history.read_text().replace('"fingerprint": "2"', '"fingerprint": "9"'))
    assert register.register(again, again / "metrics.json").version == 2
    experiment = client.get_experiment_by_name(NAME)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`facegan.fingerprint` = '9'")
    (metric,) = (key for key in runs[0].data.metrics if key.endswith("-32") and key[:3] == "fid")
    assert runs[0].data.metrics[metric] == 60.0


def test_another_evaluation_of_a_version_is_on_record_and_changes_no_role(two: Two) -> None:
    client, register = two
    before, tags = roles(client), client.get_model_version(NAME, "1").tags
    assert register(1, fid=50.001).version == 1  # on another processor
    run = registry.read(client, NAME).versions[1].run
    (name,) = (key for key in client.get_run(run).data.metrics if key == tags[registry.METRIC])
    assert client.get_run(run).data.metrics[name] == 50.001
    assert register(1, fid=70.0, num_samples=50).version == 1  # another protocol
    assert roles(client) == before
    now = client.get_model_version(NAME, "1").tags
    (added,) = now.keys() - tags.keys()
    assert added.startswith(registry.SCORES) and json.loads(now[added])["fid"] == 70.0
    assert {**now, added: ""} == {**tags, added: ""}


def test_a_second_generator_of_a_training_is_a_version_with_its_own_scores(two: Two) -> None:
    client, register = two
    folder, metrics = register.train(3, fid=40.0)
    history = folder / "history.jsonl"
    history.write_text(history.read_text().replace('"fingerprint": "3"', '"fingerprint": "1"'))
    assert register.register(folder, metrics).aliases == ("champion",)
    versions = registry.read(client, NAME).versions
    assert versions[3].run == versions[1].run
    fids = []
    for number in (1, 3):
        points = client.get_logged_model(versions[number].model).metrics or []
        points = [p for p in points if p.key == versions[number].tags[registry.METRIC]]
        fids.append(max(points, key=lambda point: point.timestamp).value)
    assert fids == [50.0, 40.0]


def test_a_second_version_of_a_generator_is_deleted(two: Two) -> None:
    client, register = two
    version = client.get_model_version(NAME, "2")
    tags = {k: v for k, v in version.tags.items() if k not in (registry.GATE, registry.STAGE)}
    mlflow.register_model(str(version.source), NAME, tags=tags)  # as two processes at once
    assert register(2, fid=60.0).version == 2
    assert roles(client) == {1: ("Production", ("champion",)), 2: ("Staging", ("challenger",))}


def test_the_gate_decides_on_a_version_whose_run_is_gone(two: Two) -> None:
    client, register = two
    delete_run_for_good(client, registry.read(client, NAME).versions[2].run)
    client.delete_model_version_tag(NAME, "2", registry.GATE)
    assert "does not beat version 1's 50" in register(2, fid=60.0).reason


def test_registering_again_is_quick_because_it_imports_no_torch(
    two: Two, references: tuple[Path, Path]
) -> None:
    program = (
        "import sys, time\n"
        "from facegan.cli.main import main\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules)\n"
    )
    arguments = ("register", "train-1", "train-1/metrics.json", references[1])
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=two[1].folder, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.endswith("False\n"), done.stdout + done.stderr
    assert "version 1: Production, @champion" in done.stdout


def test_the_decision_is_in_tag_description_and_run(two: Two) -> None:
    client, register = two
    better = register(3, fid=40.0)
    version = registry.read(client, NAME).versions[3]
    assert version.tags["facegan.gate"] == f"champion: {better.reason.partition(': ')[2]}"
    assert "passed: memorised is 0.01" in version.description
    path = client.download_artifacts(version.run, "gate/version-3.json")
    record = json.loads(Path(path).read_text())
    assert [rule["passed"] for rule in record["rules"]] == [True] * 5
    assert (record["champion"], record["scores"]["fid"]) == (1, 40.0)
    assert record["policy"]["noise"] == 2.0


def test_a_dry_run_explains_and_changes_nothing(two: Two) -> None:
    client, register = two
    before = (roles(client), len(client.search_experiments()), _runs(client))
    lines = register.preview(3, fid=40.0)
    assert f"passed better: {_metric(register)} 40 beats version 1's 50" in lines
    assert lines[-1] == f"{NAME}: would be champion"
    lines = register.preview(4, fid=70.0, memorised=1.0)
    assert "FAILED original: memorised is 1; valid: at most 0.1" in "\n".join(lines)
    assert lines[-1] == f"{NAME}: would be challenger"
    assert register.preview(1, fid=50.0)[0].startswith("registered as version 1, champion: ")
    assert (roles(client), len(client.search_experiments()), _runs(client)) == before


def _runs(client: MlflowClient) -> int:
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return len(client.search_runs(experiments))


def _metric(register: Trainer) -> str:
    content = json.loads((register.folder / "train-1" / "metrics.json").read_text())
    return str(content["protocol"]["name"])


def test_a_refused_version_never_becomes_champion(register: Trainer, client: MlflowClient) -> None:
    copier = register(1, fid=1.0, memorised=1.0)
    assert (copier.stage, copier.aliases) == ("Staging", ("challenger",))
    assert "memorised is 1" in copier.reason
    assert register(2, fid=10.0, images_seen=0).stage == "Staging"
    assert register(3, fid=10.0, untrained=10.0).stage == "Staging"
    assert register(4, fid=10.0, collapse="all alike").stage == "Staging"
    assert register(5, fid=80.0).stage == "Production"
    assert roles(client)[5] == ("Production", ("champion",))


def test_an_interrupted_gate_runs_again(two: Two) -> None:
    client, register = two
    register(3, fid=40.0)
    client.delete_model_version_tag(NAME, "3", registry.GATE)
    assert register(3, fid=40.0).aliases == ("champion",)
    client.delete_model_version_tag(NAME, "2", registry.GATE)
    assert "60 does not beat version 3's 40" in register(2, fid=60.0).reason


def test_an_experiments_version_is_a_challenger_until_dvc_repro(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, register = two
    monkeypatch.setenv("DVC_EXP_NAME", "funny-name")
    waiting = register(3, fid=40.0)
    assert waiting.aliases == ("challenger",)
    assert waiting.reason.endswith("dvc repro --single-item --force register")
    assert roles(client)[1] == ("Production", ("champion",))
    monkeypatch.delenv("DVC_EXP_NAME")
    assert register(3, fid=40.0).aliases == ("champion",)
    assert roles(client)[3] == ("Production", ("champion",))


def test_a_champion_of_another_protocol_is_rescored_and_the_score_recorded(
    register: Trainer, references: tuple[Path, Path], device: torch.device, tmp_path: Path
) -> None:
    register.with_policy(max_recall_drop=1.0, max_precision_drop=1.0)
    register(1, fid=0.001)  # unbeatable, from 40 samples
    champion = load_generator(tmp_path / "train-1" / "generator.safetensors", device)
    scorer = Scorer(Statistics.load(references[1]), 150, device)
    rescored = round(mean(scorer.sample(champion, 50, seed).fid for seed in SEEDS), 4)
    untrained = {"untrained": 10 * rescored}
    worse = register(2, fid=2 * rescored, num_samples=50, **untrained)
    assert worse.stage == "Staging"
    better = register(3, fid=rescored / 2, num_samples=50, **untrained)
    assert better.stage == "Production" and f"version 1's {rescored:g}" in better.reason
    client = MlflowClient()
    protocol = client.get_model_version(NAME, "3").tags[registry.PROTOCOL]
    tags = client.get_model_version(NAME, "1").tags
    assert tags[registry.PROTOCOL] != protocol
    assert json.loads(tags[registry.SCORES + protocol])["fid"] == rescored


@pytest.mark.parametrize("text", [None, "not a number", '{"fid": 1}'])
def test_a_champion_whose_score_was_edited_or_removed_is_rescored(
    text: str | None, two: Two
) -> None:
    client, register = two
    (tag,) = (t for t in client.get_model_version(NAME, "1").tags if t.startswith("facegan.scores"))
    for name in (tag, registry.FID):
        if text is None:
            client.delete_model_version_tag(NAME, "1", name)
        else:
            client.set_model_version_tag(NAME, "1", name, text)
    register.with_policy(max_recall_drop=1.0, max_precision_drop=1.0)
    better = register(3, fid=0.5)
    assert better.aliases == ("champion",)
    assert "; version 1 had no valid scores on record; under " in better.reason
    assert json.loads(client.get_model_version(NAME, "1").tags[tag])["fid"] > 1


def test_a_champion_with_scores_from_another_number_of_images_is_rescored(two: Two) -> None:
    client, register = two
    tags = client.get_model_version(NAME, "1").tags
    tag = registry.SCORES + tags[registry.PROTOCOL]
    text = json.dumps(json.loads(tags[tag]) | {"images": 8})
    client.set_model_version_tag(NAME, "1", tag, text)
    register.with_policy(max_recall_drop=1.0, max_precision_drop=1.0)
    reason = register(3, fid=0.5).reason
    assert "; version 1 had precision, recall and memorised from 8 images, not 20; under " in reason


def test_generators_of_another_shape_are_refused_with_advice(
    register: Trainer, client: MlflowClient
) -> None:
    register(1, fid=50.0, config={**CONFIG, "size": 64, "base_channels": 2})
    with pytest.raises(FaceganError, match=r"of 64x64x1 images .* makes 32x32x1; set register\.na"):
        register(2, fid=40.0)
    assert list(roles(client)) == [1]


def test_scores_of_another_generator_are_refused(two: Two) -> None:
    _, register = two
    stale = register.folder / "train-1" / "metrics.json"
    with pytest.raises(FaceganError, match="computed for another generator"):
        register.register(register.folder / "train-2", stale)


def test_other_statistics_than_those_of_the_scores_are_refused(
    two: Two, references: tuple[Path, Path]
) -> None:
    _, register = two
    folder, metrics = register.train(1, fid=50.0, reference=file_sha256(references[1]))
    assert register.register(folder, metrics).version == 1
    register.official = references[0]
    with pytest.raises(FaceganError, match="computed with other statistics than"):
        register.register(folder, metrics)


def test_with_manual_approval_a_version_waits_for_a_person(two: Two) -> None:
    client, register = two
    register.with_policy(approval="manual")
    waiting = register(3, fid=40.0)
    assert waiting.aliases == ("challenger",)
    assert "approve: facegan models approve 3, or tag facegan.approved: yes" in waiting.reason
    assert register(3, fid=40.0).aliases == ("challenger",)
    client.set_model_version_tag(NAME, "3", registry.APPROVED, "yes")
    assert register(3, fid=40.0).aliases == ("champion",)


def test_a_champion_whose_files_are_gone_or_changed_is_named(
    register: Trainer, backend: Store
) -> None:
    register(1, fid=50.0)
    (name,) = backend.files("*/extra_files/generator.safetensors")
    content = backend.read(name)
    backend.delete(name)
    gone = r"version 1: generator.safetensors missing .*facegan models repair 1 FOLDER"
    with pytest.raises(FaceganError, match=gone):
        register(1, fid=50.0)
    assert "generator.safetensors missing in the artifact store" in register(2, fid=40.0).reason
    with pytest.raises(FaceganError, match=gone):
        register(1, fid=50.0)
    backend.write(name, content)
    register(1, fid=50.0)
    for changed in (content[:-9], content[:-9] + bytes(9)):
        backend.write(name, changed)
        with pytest.raises(FaceganError, match=r"generator.safetensors changed"):
            register(1, fid=50.0)


def test_a_champion_that_changed_in_place_is_named_where_others_are_compared_with_it(
    register: Trainer, backend: Store
) -> None:
    register(1, fid=50.0)
    (name,) = backend.files("*/extra_files/generator.safetensors")
    backend.write(name, backend.read(name)[:-9] + bytes(9))
    found = register(2, fid=60.0)
    assert found.stage == "Staging"
    assert "version 1: generator.safetensors changed in the artifact store" in found.reason


def test_a_missing_score_file_is_one_line(two: Two) -> None:
    result = facegan("register", *FILES, "--dry-run", cwd=two[1].folder)
    assert result.returncode == 0 and "registered as version 1" in result.stdout
    (two[1].folder / "train-1" / "metrics.json").write_text("{}")
    result = facegan("register", *FILES, cwd=two[1].folder)
    assert result.returncode == 1
    assert "no scores (generator is missing); run: dvc repro evaluate" in result.stderr


def test_the_registered_version_of_a_generator_is_found(two: Two) -> None:
    sha256 = two[0].get_model_version(NAME, "2").tags[registry.GENERATOR]
    found = stage.find_registered(NAME, sha256)
    assert found is not None and (found.version, found.stage) == (2, "Staging")
    assert stage.find_registered(NAME, "0" * 64) is None


@pytest.mark.parametrize(
    ("of_version", "aliases", "expected"),
    [
        ("Production", ("champion",), "Production, @champion"),
        ("None", ("champion",), "@champion"),  # another process has moved the alias alone so far
        ("Archived", (), "Archived"),
        ("None", (), "no stage"),
    ],
)
def test_roles_name_stage_and_aliases_that_a_version_has(
    of_version: str, aliases: tuple[str, ...], expected: str
) -> None:
    assert stage.Registered("faces", 1, "run", of_version, aliases, "", "").roles == expected
