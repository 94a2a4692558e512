"""A summary of the result: scores, registered version, pictures."""

from pathlib import Path
from typing import Any

from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.core.parsing import parse_json
from facegan.core.paths import require_file
from facegan.evaluate.rows import companion_rows
from facegan.register.scores import WEIGHTS
from facegan.register.stage import find_registered

# What a file that holds no scores raises.
UNREADABLE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, StopIteration,
)  # fmt: skip


def summary(trained: Path, metrics: Path, evaluation: Path, name: str) -> list[tuple[str, str]]:
    """Return the rows (name, value) of a table, read from the artifacts and the registry.

    Raises:
        FaceganError: if there are no scores, or MLflow cannot be reached.
    """
    require_file(metrics, "metrics.json, which facegan evaluate wrote")
    try:
        rows = _score_rows(parse_json(metrics.read_text("utf-8")))
    except UNREADABLE as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise FaceganError(f"{metrics}: no scores ({reason}); run: dvc repro") from None
    version = find_registered(name, file_sha256(trained / WEIGHTS))
    if version is None:
        rows.append(("registered", "not yet; run: dvc repro --single-item --force register"))
    else:
        rows.append(("registered", f"{name} version {version.version}, {version.roles}"))
        rows += [("gate", version.reason), ("champion", version.champion), ("run", version.run)]
    pictures = (evaluation / "samples.png", trained / "evolution.gif", trained / "samples")
    rows.append(("pictures", "  ".join(map(str, pictures))))
    return rows


def _score_rows(scores: dict[str, Any]) -> list[tuple[str, str]]:
    protocol = scores["protocol"]
    metric = protocol["name"]
    rows = [
        ("protocol", f"{metric}: {len(protocol['seeds'])} times {protocol['num_samples']:,} "
                     f"generated images against {protocol['num_real']:,} real images; "
                     "lower is better"),
        ("untrained", f"{scores['untrained']:.1f}, before the first step"),
        ("FID", f"{scores[metric]:.1f} ± {scores[f'{metric}_spread']:.1f}, "
                f"best snapshot, at {scores['images_seen']:,} images seen"),
        ("floor", f"{scores['floor']:.1f}, between two halves of the real images"),
        *companion_rows(scores),
    ]  # fmt: skip
    if note := protocol["comparability_note"]:
        rows.insert(1, ("", note))
    return rows
