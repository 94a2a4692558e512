"""Registers a trained generator as a version in MLflow's registry."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from facegan.core.digests import file_sha256
from facegan.params import Register
from facegan.register import card, files, history, promotion, registry, roles
from facegan.register.gate import read_candidate
from facegan.register.metrics import read_metrics
from facegan.register.promotion import Trial
from facegan.register.registry import (
    BY_HAND,
    DATA,
    FID,
    GATE,
    METRIC,
    PROTOCOL,
    SCORES,
    SHAPE,
    Registry,
    Version,
)
from facegan.register.scores import WEIGHTS, Scores
from facegan.tracking import connection, runs

if TYPE_CHECKING:  # registering again needs no torch
    import torch

WAITING = "DVC experiment; the gate runs at: dvc repro --single-item --force register"


@dataclass(frozen=True)
class Registered:
    """A registered version: its MLflow run, its stage, its aliases, the gate's reason for them, how
    the present champion became it, and what this call repaired, adopted or promoted."""

    name: str
    version: int
    run: str
    stage: str
    aliases: tuple[str, ...]
    reason: str
    champion: str
    messages: tuple[str, ...] = ()

    @property
    def roles(self) -> str:
        """Stage and aliases: `Production, @champion`. No stage while another process moves it."""
        stage = [] if self.stage == "None" else [self.stage]
        return ", ".join([*stage, *(f"@{alias}" for alias in self.aliases)]) or "no stage"


def register(
    trained: Path,
    metrics: Path,
    official: Path,
    settings: Register,
    choose_device: "Callable[[], torch.device]",
) -> Registered:
    """Register the generator in the folder `trained` as a version, and run the promotion gate.

    Registering again changes nothing: each generator has one version, and the gate decides once
    about it. Aliases and stages that disagree are repaired; a champion that a person chose stays.

    Args:
        trained: the folder that `train` wrote.
        metrics: the scores that `evaluate` wrote.
        official: the feature statistics for rescoring a champion of another protocol.
        choose_device: for rescoring.
    Returns:
        The version with its stage, its aliases and the gate's reason.
    Raises:
        FaceganError: if the scores belong to another generator, the registered model has generators
            of another image shape, a version's files are gone, or MLflow cannot be reached.
    """
    content, sha256 = read_metrics(metrics, trained, official), file_sha256(trained / WEIGHTS)
    client, name = connection.connect(), settings.name
    candidate = read_candidate(content, trained)
    with connection.translate_errors():
        found, messages = repair(client, registry.read(client, name))
        registry.require_shape(found, _shape(content))
        run = runs.mirror(client, trained, name)
        own = None
        if existing := found.of_generator(sha256):
            files.require_intact(existing[0])
        else:
            own = _create(trained, metrics, content, settings, run)
        if own is None and len(existing) == 1:
            version, number = existing[0], existing[0].number
        else:
            number = _one_version(client, name, sha256, own)
            found, version = registry.require(client, name, number)
        own_model = version.model if version.run == run.info.run_id else None
        runs.log_scores(client, run, content, own_model)
        if (tag := SCORES + candidate.scores.protocol) not in version.tags:
            text = candidate.scores.to_json()  # need not be computed again for a challenger
            connection.insist(client.set_model_version_tag, name, str(number), tag, text)
        if found.champion is None or not promotion.is_decided(version):
            text = card.text(name, settings.terms, content, trained)
            trial = Trial(client, settings, candidate, content, official, choose_device, text)
            promotion.run(trial, number)
            before, found = found, registry.read(client, name)
            messages += _promoted(before, found, number)
        return describe(found, number, messages)


def preview(
    trained: Path,
    metrics: Path,
    official: Path,
    settings: Register,
    choose_device: "Callable[[], torch.device]",
) -> list[str]:
    """What `register` would decide, as lines; nothing is changed."""
    content = read_metrics(metrics, trained, official)
    client, candidate = connection.connect(create=False), read_candidate(content, trained)
    with connection.translate_errors():
        found = registry.read(client, settings.name)
        registry.require_shape(found, _shape(content))
        trial = Trial(client, settings, candidate, content, official, choose_device, "")
        existing = found.of_generator(file_sha256(trained / WEIGHTS))
        if existing and promotion.is_decided(existing[0]):
            version = existing[0]
            return [f"registered as version {version.number}, {version.tags[GATE]}"]
        decision = trial.compare(found.champion, keep=False)
    manual = settings.approval == "manual" and "; it would wait for approval"
    verb = "would be champion" if decision.passed else "would be challenger"
    return [*promotion.explain(decision), f"{settings.name}: {verb}{manual or ''}"]


def repair(client: MlflowClient, found: Registry) -> tuple[Registry, tuple[str, ...]]:
    """Restore edited tags, adopt a champion that a person chose, and make aliases, stages and tags
    agree again.

    Returns:
        The registry as it is then, and what was done, as lines for the user.
    """
    restored = history.restore(client, found)
    found = registry.read(client, found.name) if restored else found
    restored += roles.restore_tags(client, found)
    adopted = roles.adopt(client, found)
    lines = roles.converge(client, found.name, found=None if adopted or restored else found)
    repaired = restored if adopted else [*restored, *lines]
    messages = (*adopted, *(f"repaired: {line}" for line in repaired))
    if not messages:
        return found, ()
    found = registry.read(client, found.name)
    if adopted:
        history.write(client, found)
    return found, messages


def _promoted(before: Registry, after: Registry, number: int) -> tuple[str, ...]:
    """The message that the gate has made a version champion; the Prefect flow reads it."""
    reign = after.reign
    if reign is None or reign == before.reign or (reign.version, reign.by) != (number, "gate"):
        return ()
    return (f"promoted: {reign.line}",)


def _shape(content: dict[str, Any]) -> str:
    return "x".join(map(str, content["protocol"]["shape"]))


def _create(
    trained: Path, metrics: Path, content: dict[str, Any], settings: Register, run: Run
) -> Version:
    from facegan.register import export

    scores, protocol = Scores.from_metrics(content), content["protocol"]
    tags = {tag: file_sha256(trained / file) for file, tag in files.NETWORKS.items()}
    tags |= {PROTOCOL: scores.protocol, FID: str(scores.fid), METRIC: scores.metric}
    tags |= {SCORES + scores.protocol: scores.to_json()}
    tags |= {DATA: protocol["data"], SHAPE: _shape(content)}
    text = card.text(settings.name, settings.terms, content, trained)
    with TemporaryDirectory() as folder:
        attached = [metrics, *card.write(Path(folder), text, content, trained)]
        seen = int(content["images_seen"])
        uri = export.log_model(trained, attached, run.info.run_id, tags, seen)
    # Not awaited, because another process may have deleted it as a duplicate.
    version = mlflow.register_model(uri, settings.name, await_registration_for=0, tags=tags)
    return Version.of(version)


def _one_version(client: MlflowClient, name: str, sha256: str, own: Version | None) -> int:
    """The version of a generator; later ones, which processes created at once, are deleted.

    One that a person or the gate gave a role is kept.

    Args:
        own: the version that this process created.
    """
    found = registry.read(client, name)
    first, *others = found.of_generator(sha256)
    promoted = {entry.version for entry in found.promotions}
    for version in others:
        if version.stage == "None" and version.number not in promoted and GATE not in version.tags:
            with contextlib.suppress(MlflowException):  # that process deleted it itself
                client.delete_model_version(name, str(version.number))
    if own is not None and own.number not in {first.number, *promoted}:
        # By this process alone, because no other knows that its upload has ended.
        client.delete_logged_model(own.model)
    return first.number


def describe(found: Registry, number: int, messages: tuple[str, ...] = ()) -> Registered:
    version = found.versions[number]
    reason = version.tags.get(GATE, WAITING)
    if by_hand := version.tags.get(BY_HAND):
        reason = by_hand
    aliases, champion = found.aliases_of(number), found.reign.line if found.reign else "none"
    return Registered(
        found.name, number, version.run, version.stage, aliases, reason, champion, messages
    )


def find_registered(name: str, sha256: str) -> Registered | None:
    """Return the version of the generator with this sha256, or None if it is not registered.

    Raises:
        FaceganError: if MLflow cannot be reached.
    """
    if not connection.has_store():
        return None
    client = connection.connect()
    with connection.translate_errors():
        found = registry.read(client, name)
        existing = found.of_generator(sha256)
        return describe(found, existing[0].number) if existing else None
