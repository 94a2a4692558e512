"""The versions of a registered model, as people look at them and go back to them."""

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from facegan.core.errors import FaceganError
from facegan.core.numbers import significant
from facegan.register import files, history, promotion, registry, roles
from facegan.register.card import CARD
from facegan.register.lineage import COMMIT
from facegan.register.registry import APPROVED, DATA, FID, GATE, METRIC, SCORES
from facegan.register.scores import Scores
from facegan.tracking.connection import insist

# With these widths, 80 columns suffice.
COLUMNS = ("v.", "stage", "alias", "FID", "recall", "memorised", "data", "commit", "date")
Rows = list[tuple[str, ...]]


def table(client: MlflowClient, name: str, last: int) -> dict[str, Rows]:
    """Protocol -> one row of COLUMNS for each version; the last versions, the newest first.

    FIDs of different protocols are not comparable, so they have tables of their own.

    Raises:
        FaceganError: if there is none.
    """
    found, rows = registry.require_versions(client, name), dict[str, Rows]()
    newest = sorted(found.versions.items(), reverse=True)[:last]
    commits = _commits(client, [version.run for _, version in newest if version.run])
    for number, version in newest:
        protocol = version.tags.get(registry.PROTOCOL, "")
        scores = Scores.from_json(version.tags.get(SCORES + protocol))
        shares = [scores and scores.recall, scores and scores.memorised]
        fid = (
            f"{significant(scores.fid, 4)} ± {significant(scores.spread, 2)}"
            if scores
            else version.tags.get(FID, "")
        )
        title = f"{version.tags.get(METRIC, 'no metric')}, protocol {protocol or 'unknown'}"
        rows.setdefault(title, []).append((
            str(number), version.stage, ", ".join(found.aliases_of(number)), fid,
            *("" if share is None else f"{share:g}" for share in shares),
            version.tags.get(DATA, "")[:6], commits.get(version.run, "")[:7],
            f"{version.date:%Y-%m-%d}",
        ))  # fmt: skip
    return rows


def _commits(client: MlflowClient, run_ids: list[str]) -> dict[str, str]:
    """Run -> commit, with one request per 100 runs."""
    commits = {}
    for first in range(0, len(run_ids), 100):
        chosen = run_ids[first : first + 100]
        experiments = [e.experiment_id for e in client.search_experiments(max_results=1000)]
        ids = ", ".join(f"'{run}'" for run in chosen)
        for run in client.search_runs(experiments, f"attributes.run_id IN ({ids})"):
            commits[run.info.run_id] = run.data.tags.get(COMMIT, "")
    return commits


def show(client: MlflowClient, name: str, number: int) -> str:
    """The gate's decision, what is wrong with the version's files, and the model card.

    Raises:
        FaceganError: if there is no such version.
    """
    _, version = registry.require(client, name, number)
    reason = files.damage(version)
    damage = f"files: {reason}; {files.advice(version)}\n\n" if reason else ""
    try:
        card = mlflow.artifacts.load_text(f"{version.uri}/{files.EXTRA}/{CARD}")
    except (MlflowException, OSError):
        return damage + (version.description or version.tags.get(GATE, "no description"))
    return f"{version.tags.get(GATE, 'the gate has not decided')}\n\n{damage}{card}"


def promotions(client: MlflowClient, name: str) -> list[str]:
    """All promotions as lines, the last one first.

    Raises:
        FaceganError: if there is no version.
    """
    entries = history.read(registry.require_versions(client, name))
    return [entry.line for entry in reversed(entries)] or [f"{name}: no version was promoted yet"]


def make_champion(client: MlflowClient, name: str, number: int | None) -> list[str]:
    """Make a version champion by a person's decision; by default the one before the champion.

    It stays until a version passes the gate against it, or a person decides again.

    Returns:
        What changed, as lines.
    Raises:
        FaceganError: if there is no such version, or it is champion already.
    """
    found = registry.read(client, name)
    if number is None:
        if found.reign is None or found.reign.over not in found.versions:
            raise FaceganError(f"{name}: no champion before the present one; name a version")
        number = found.reign.over
    assert number is not None
    _, version = registry.require(client, name, number)
    if found.champion is not None and found.champion.number == number:
        raise FaceganError(f"{name} version {number} is champion already")
    files.require_intact(version)
    roles.promote(client, found, number, "person", "facegan models rollback")
    lines = roles.converge(client, name, number)
    history.write(client, registry.read(client, name))
    return lines


def approve(client: MlflowClient, name: str, number: int) -> list[str]:
    """Promote a version that waits for approval.

    Raises:
        FaceganError: if it does not wait, or the champion has changed since it was compared.
    """
    found, version = registry.require(client, name, number)
    decision = version.tags.get(GATE, "the gate has not decided")
    if not decision.startswith(promotion.AWAITING):
        raise FaceganError(f"{name} version {number} does not await approval: {decision}")
    insist(client.set_model_version_tag, name, str(number), APPROVED, roles.user())
    champion = str(found.champion.number if found.champion else "")
    if version.tags.get(promotion.COMPARED) != champion:
        raise FaceganError(
            f"{name} version {number} is approved, but version {champion} became champion "
            "meanwhile; register it again, and the gate compares the two"
        )
    reason = decision.partition(": ")[2].partition("; approve: ")[0]
    who = f"{roles.user()} (approved)"
    roles.promote(client, found, number, "gate", reason, who)
    roles.record_decision(
        client, version, f"{registry.CHAMPION}: {reason}; approved by {roles.user()}"
    )
    lines = roles.converge(client, name, number)
    history.write(client, registry.read(client, name))
    return lines
