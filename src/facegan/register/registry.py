"""A registered model as MLflow has it at one moment, and who became champion when.

Promotions are on record as tags of the registered model, one per promotion, so that no process
overwrites another's. The champion follows from them (`Registry.champion`), and alias and stage
follow from the champion (`roles`).
"""

import datetime
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from pydantic import AwareDatetime, FiniteFloat, TypeAdapter, ValidationError

from facegan.core.errors import FaceganError
from facegan.tracking import connection

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
PRODUCTION, STAGING, ARCHIVED = "Production", "Staging", "Archived"
# Tags of a version.
GENERATOR = "facegan.generator"  # sha256 of its safetensors file, which identifies it
DISCRIMINATOR = "facegan.discriminator"  # sha256 of the discriminator trained with it
FID, PROTOCOL, METRIC = "facegan.fid", "facegan.protocol", "facegan.metric"
DATA, SHAPE = "facegan.data", "facegan.shape"
SCORES = "facegan.scores."  # with a protocol's id: the version's scores under it
GATE = "facegan.gate"  # the gate's decision and reason; without it, the gate runs
BY_HAND = "facegan.by_hand"  # a person made it champion
STAGE = "facegan.stage"  # the stage that facegan moved it to last
APPROVED = "facegan.approved"  # by whom; with register.approval: manual
# What a version is registered with; MLflow's logged model has them as parameters, too.
FIXED = (GENERATOR, DISCRIMINATOR, FID, PROTOCOL, METRIC, DATA, SHAPE)
# Tags of the registered model: this, the turn and the version.
PROMOTION = "facegan.promotion"
KEPT = 100  # promotions on record
PAGE = 10_000  # versions of one answer of MLflow
ROUNDS = 20  # of reading again what other processes write at the same time


@dataclass(frozen=True)
class Promotion:
    """A version became champion.

    Attributes:
        turn: one more than that of the champion that it replaced. Of two processes that promote
            at once, both have the same turn.
        over: the champion that it replaced; None for the first one.
        by: `found` for the champion of a registry without promotions on record.
        settled: alias and stages were moved. While one is not, the process that promotes is at
            work or was killed, so that what disagrees was not moved by hand.
    """

    turn: int
    version: int
    over: int | None
    by: Literal["gate", "person", "found"]
    who: str
    when: AwareDatetime
    why: str
    run: str
    protocol: str
    fid: FiniteFloat | None
    settled: bool = False

    @property
    def key(self) -> str:
        return f"{PROMOTION}.{self.turn:06}.{self.version}"

    @property
    def line(self) -> str:
        """What became champion over what, when, by whom and why."""
        over = f" over version {self.over}" if self.over else ""
        run = f", run {self.run[:8]}" if self.run else ""
        protocol = f", protocol {self.protocol}" if self.protocol else ""
        when = f"{self.when:%Y-%m-%d %H:%M}"
        return f"{when} version {self.version}{over}, by {self.who}{run}{protocol}: {self.why}"

    def to_json(self) -> str:
        shorter = replace(self, why=self.why[:1000])  # a tag has 5,000 characters
        return _PROMOTION.dump_json(shorter).decode()

    @classmethod
    def from_json(cls, text: str) -> "Promotion | None":
        """None if `text` is not what `to_json` wrote: tags can be edited by hand."""
        try:
            return _PROMOTION.validate_json(text, strict=True)
        except ValidationError:
            return None


_PROMOTION = TypeAdapter(Promotion)


@dataclass(frozen=True)
class Version:
    """A version of a registered model. Its number is an int; MLflow's is a string over HTTP."""

    name: str
    number: int
    stage: str
    tags: Mapping[str, str]
    run: str
    model: str
    created: int  # milliseconds since 1970
    description: str

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.number}"

    @property
    def date(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self.created / 1000, datetime.UTC)

    @classmethod
    def of(cls, version: ModelVersion) -> Self:
        # MLflow's databases keep the model in the source alone.
        source = re.fullmatch(r"models:/(m-\w+)", version.source or "")
        model = version.model_id or (source[1] if source else "")
        return cls(
            version.name, int(version.version), str(version.current_stage or "None"),
            dict(version.tags), version.run_id or "", model,
            int(version.creation_timestamp or 0), version.description or "",
        )  # fmt: skip


@dataclass(frozen=True)
class Registry:
    """All versions of a registered model, its aliases and its promotions, in order of turns.

    Attributes:
        edited: tags of promotions that no longer hold what was written there.
    """

    name: str
    versions: Mapping[int, Version]
    aliases: Mapping[str, int]
    promotions: tuple[Promotion, ...]
    edited: frozenset[str]

    @property
    def reign(self) -> Promotion | None:
        """The promotion of the present champion; None if there is no champion.

        Of several with the same turn, a person's counts; then the lowest FID, if all have the same
        protocol; then the lowest version. Deleted versions do not count.
        """
        found = [entry for entry in self.promotions if entry.version in self.versions]
        if not found:
            return None
        last = [entry for entry in found if entry.turn == max(e.turn for e in found)]
        comparable = len({entry.protocol for entry in last}) == 1

        def rank(entry: Promotion) -> tuple[bool, float, int]:
            fid = float("inf") if entry.fid is None or not comparable else entry.fid
            return (entry.by != "person", fid, entry.version)

        return min(last, key=rank)

    @property
    def champion(self) -> Version | None:
        return None if self.reign is None else self.versions[self.reign.version]

    @property
    def last_turn(self) -> int:
        turns = [entry.turn for entry in self.promotions]
        return max([*turns, *(int(key.split(".")[2]) for key in self.edited)], default=0)

    @property
    def in_production(self) -> set[int]:
        return {number for number, v in self.versions.items() if v.stage == PRODUCTION}

    def aliases_of(self, number: int) -> tuple[str, ...]:
        return tuple(sorted(alias for alias, n in self.aliases.items() if n == number))

    def of_generator(self, sha256: str) -> list[Version]:
        """The versions with this generator, lowest number first."""
        found = [v for v in self.versions.values() if v.tags.get(GENERATOR) == sha256]
        return sorted(found, key=lambda version: version.number)


def read(client: MlflowClient, name: str) -> Registry:
    """Read a registered model; one that does not exist has no versions.

    It takes several requests: read again until nothing changes in between, because a promotion that
    is read half would look like one made by hand.
    """
    model, versions_of = _model(client, name), connection.named(name)
    for _ in range(ROUNDS):
        found = _versions(client, versions_of) if model else []
        again = _model(client, name)
        if model == again:
            break
        model = again
    tags, aliases = model or ({}, {})
    keys = [key for key in tags if re.fullmatch(rf"{re.escape(PROMOTION)}\.\d+\.\d+", key)]
    entries = {key: Promotion.from_json(tags[key]) for key in keys}
    promotions = [entry for key, entry in entries.items() if entry and entry.key == key]
    versions = {int(v.version): Version.of(v) for v in found}
    return Registry(
        name,
        dict(sorted(versions.items())),
        {alias: int(number) for alias, number in aliases.items()},
        tuple(sorted(promotions, key=lambda entry: (entry.turn, entry.version))),
        frozenset(keys) - {entry.key for entry in promotions},
    )


def _versions(client: MlflowClient, query: str) -> list[ModelVersion]:
    found = list[ModelVersion]()
    order = ["version_number ASC"]  # which does not change from page to page
    token: str | None = None
    while token != "":
        page = client.search_model_versions(query, PAGE, order, token)
        found += page
        token = page.token or ""
    return found


def _model(client: MlflowClient, name: str) -> tuple[dict[str, str], dict[str, Any]] | None:
    try:
        model = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            return None
        raise
    return dict(model.tags), dict(model.aliases)


def require(client: MlflowClient, name: str, number: int) -> tuple[Registry, Version]:
    """The registered model and one of its versions.

    Raises:
        FaceganError: if there is no such version.
    """
    registry = read(client, name)
    if number not in registry.versions:
        raise FaceganError(f"{no_version(registry, number)}{workspace()}")
    return registry, registry.versions[number]


def workspace() -> str:
    """Where a version was looked for, on a server with workspaces; else empty."""
    try:
        names = [found.name for found in mlflow.list_workspaces()]
    except MlflowException:  # the store has none
        return ""
    chosen = os.environ.get("MLFLOW_WORKSPACE", "").strip() or "default"
    if names == [chosen]:
        return ""
    others = ", ".join(name for name in names if name != chosen) or "no other"
    return f"; in workspace {chosen}, MLFLOW_WORKSPACE chooses another: {others}"


def require_versions(client: MlflowClient, name: str) -> Registry:
    """
    Raises:
        FaceganError: if the registered model has no versions.
    """
    registry = read(client, name)
    if not registry.versions:
        advice = "run: dvc repro --single-item --force register"
        raise FaceganError(f"{name} has no versions; {advice}{workspace()}")
    return registry


def no_version(registry: Registry, number: int) -> str:
    """The message that a version does not exist, with those that do."""
    found = ", ".join(map(str, list(registry.versions)[-10:])) or "none"
    return f"{registry.name} has no version {number}; the last ones: {found}"


def require_shape(registry: Registry, shape: str) -> None:
    """
    Raises:
        FaceganError: if another version generates images of another shape.
    """
    for version in reversed(list(registry.versions.values())):
        other = version.tags.get(SHAPE, shape)
        if other != shape:
            raise FaceganError(
                f"{registry.name} has generators of {other} images (version {version.number}), "
                f"and this one makes {shape}; set register.name to another name"
            )
