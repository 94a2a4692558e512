"""Aliases and stages follow from the promotions on record; a person's choice is respected.

MLflow has no compare-and-set. Each process writes its promotion first, then moves alias and stage
together, and reads again until they agree with what all processes wrote: the last one to write
reads everything. A killed process leaves an unsettled promotion, which the next call completes.
"""

import datetime
import getpass
import os
import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from facegan.core.errors import FaceganError
from facegan.register import registry as registries
from facegan.register.registry import (
    ARCHIVED,
    BY_HAND,
    CHALLENGER,
    CHAMPION,
    DISCRIMINATOR,
    FIXED,
    GATE,
    GENERATOR,
    KEPT,
    PREVIOUS,
    PRODUCTION,
    ROUNDS,
    SCORES,
    STAGE,
    STAGING,
    Promotion,
    Registry,
    Version,
)
from facegan.register.scores import Scores
from facegan.tracking.connection import insist

By = Literal["gate", "person", "found"]
# Seconds after which an unsettled promotion is that of a killed process.
ABANDONED = 600


def promote(
    client: MlflowClient, registry: Registry, number: int, by: By, why: str, who: str = ""
) -> Promotion:
    """Record that a version replaces the champion. `converge` then moves alias and stage.

    Args:
        who: by default the user of this process.
    """
    version, champion = registry.versions[number], registry.champion
    protocol = version.tags.get(registries.PROTOCOL, "")
    scores = Scores.from_json(version.tags.get(SCORES + protocol))
    promotion = Promotion(
        registry.last_turn + 1, number, champion.number if champion else None, by,
        who or user(), now(), why, version.run, protocol, scores.fid if scores else None,
    )  # fmt: skip
    insist(client.set_registered_model_tag, registry.name, promotion.key, promotion.to_json())
    for entry in registry.promotions[: -KEPT + 1]:
        if entry.version != promotion.over:
            insist(client.delete_registered_model_tag, registry.name, entry.key)
    return promotion


def user() -> str:
    """The name that MLflow knows, or that of the system's user."""
    try:
        return os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()
    except (OSError, KeyError):  # a user without an entry in the password database
        return str(os.getuid())


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def adopt(client: MlflowClient, registry: Registry) -> list[str]:
    """Record the champion that a person chose, by alias or stage, in the UI or with MLflow.

    Nothing is adopted before a promotion is complete: until then, what disagrees is repaired.

    Returns:
        What was adopted, as lines for the user.
    """
    champion, alias = registry.champion, registry.aliases.get(CHAMPION)
    if not all(entry.settled for entry in registry.promotions):
        return []
    present = champion.number if champion else None
    moved_stages = registry.in_production - {present}
    if alias is not None and alias != present:
        chosen, how = alias, f"alias @{CHAMPION}"
    elif moved_stages:
        chosen, how = max(moved_stages), f"stage {PRODUCTION}"
    else:
        return []
    if registry.promotions:
        why = f"version {chosen} was made champion by hand ({how}); it stays until a better one"
        promotion = promote(client, registry, chosen, "person", why, "hand")
    else:
        why = f"version {chosen} was champion before promotions were recorded"
        promotion = promote(client, registry, chosen, "found", why, "unknown")
    settle(client, registry.name, [promotion])
    return [why]


def _is_settled(entry: Promotion) -> bool:
    return entry.settled or (now() - entry.when).total_seconds() > ABANDONED


def settle(client: MlflowClient, name: str, promotions: Iterable[Promotion]) -> None:
    for entry in promotions:
        insist(
            client.set_registered_model_tag, name, entry.key, replace(entry, settled=True).to_json()
        )


def restore_tags(client: MlflowClient, registry: Registry) -> list[str]:
    """Set the tags that were edited or deleted as they were registered.

    Only the champion, and versions without hashes of their networks, cost a request.

    Returns:
        What was changed, as lines for the user.
    """
    lines, champion, hashes = [], registry.champion, {GENERATOR, DISCRIMINATOR}
    for version in registry.versions.values():
        if not version.model or (hashes <= version.tags.keys() and version != champion):
            continue
        try:
            registered = client.get_logged_model(version.model).params or {}
        except MlflowException:  # deleted
            continue
        for tag in FIXED:
            if (value := registered.get(tag)) and version.tags.get(tag) != value:
                insist(client.set_model_version_tag, registry.name, str(version.number), tag, value)
                lines.append(f"version {version.number}: tag {tag}")
    return lines


def converge(
    client: MlflowClient, name: str, own: int | None = None, found: Registry | None = None
) -> list[str]:
    """Make aliases, stages and tags agree with the promotions on record.

    Args:
        own: a version whose promotions this process completes.
        found: the registry as it was read just now; None: read it.
    Returns:
        What was changed, as lines for the user.
    """
    lines: list[str] = []
    for _ in range(ROUNDS):
        registry, found = found or registries.read(client, name), None
        changed = _move(client, registry)
        if not changed:
            mine = (e for e in registry.promotions if e.version == own or _is_settled(e))
            settle(client, name, (entry for entry in mine if not entry.settled))
            return lines
        lines += changed
    raise FaceganError(f"{name}: other processes keep moving alias and stage; register again")


def _move(client: MlflowClient, registry: Registry) -> list[str]:
    """One pass over aliases and stages; empty if everything agreed."""
    reign = registry.reign
    if reign is None:
        return []
    name, champion = registry.name, reign.version
    lines = []
    for alias, expected in ((CHAMPION, champion), (PREVIOUS, reign.over), (CHALLENGER, None)):
        actual = registry.aliases.get(alias)
        if expected in registry.versions and actual != expected:
            insist(client.set_registered_model_alias, name, alias, str(expected))
            lines.append(f"alias @{alias}: version {expected} (was {actual or 'missing'})")
        elif alias != CHAMPION and actual == champion:  # one version has one role
            insist(client.delete_registered_model_alias, name, alias)
            lines.append(f"alias @{alias}: removed from the champion")
    lines += _move_stages(client, registry, reign)
    return lines


def _move_stages(client: MlflowClient, registry: Registry, reign: Promotion) -> list[str]:
    lines = []
    for version in registry.versions.values():
        is_champion = version.number == reign.version
        if is_champion and version.stage != PRODUCTION:
            lines.append(_transition(client, version, PRODUCTION))
        elif not is_champion and version.stage == PRODUCTION:
            lines.append(_transition(client, version, ARCHIVED))
        if is_champion and GATE not in version.tags:  # killed before it was written
            record_decision(client, version, f"{CHAMPION}: {reign.why}")
            lines.append(f"version {version.number}: tag {GATE}")
        by_hand = f"{reign.when}: {reign.why}" if is_champion and reign.by == "person" else None
        if version.tags.get(BY_HAND) != by_hand:
            if by_hand is None:
                insist(client.delete_model_version_tag, registry.name, str(version.number), BY_HAND)
            else:
                insist(
                    client.set_model_version_tag,
                    registry.name,
                    str(version.number),
                    BY_HAND,
                    by_hand,
                )
            lines.append(f"version {version.number}: tag {BY_HAND}")
    return lines


def _transition(client: MlflowClient, version: Version, stage: str) -> str:
    with warnings.catch_warnings():
        # MLflow deprecates stages in favour of aliases; both work as long as MLflow has them.
        warnings.simplefilter("ignore", FutureWarning)
        client.transition_model_version_stage(version.name, str(version.number), stage)
    insist(client.set_model_version_tag, version.name, str(version.number), STAGE, stage)
    return f"version {version.number}: stage {stage} (was {version.stage})"


def challenge(client: MlflowClient, name: str, number: int) -> None:
    """Give a version that is not champion the alias and stage of a challenger.

    An older challenger is archived. A version that a person moved to its stage stays there.
    """
    registry = registries.read(client, name)
    newest = max(number, registry.aliases.get(CHALLENGER, 0))
    if newest == number:
        insist(client.set_registered_model_alias, name, CHALLENGER, str(number))
    for version in registry.versions.values():
        moved_by_hand = version.stage not in ("None", version.tags.get(STAGE))
        if version.number == number and not moved_by_hand:
            expected = STAGING if newest == number else ARCHIVED
        elif version.number < newest and version.stage == STAGING and not moved_by_hand:
            expected = ARCHIVED
        else:
            continue
        if version.stage != expected:
            _transition(client, version, expected)
    converge(client, name)  # one of them may have become champion meanwhile


def record_decision(client: MlflowClient, version: Version, text: str) -> None:
    insist(client.set_model_version_tag, version.name, str(version.number), GATE, text)
