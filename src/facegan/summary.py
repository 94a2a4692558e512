"""What a pipeline's artifacts and the registry say about its result."""

import json
from pathlib import Path

from facegan.checkpoint import file_sha256
from facegan.errors import FaceganError
from facegan.registry import find_registered


def summary(trained: Path, metrics: Path, evaluation: Path, name: str) -> list[tuple[str, str]]:
    """Rows (what, value) for a table, read from the artifacts and the registry.

    Raises:
        FaceganError: if there are no scores yet, or MLflow cannot be reached.
    """
    try:
        scores = json.loads(metrics.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise FaceganError(f"{metrics}: no scores ({error}); run: dvc repro") from None
    metric = scores["protocol"]["name"]
    rows = [
        ("protocol", f"{metric}: {scores['protocol']['fakes']:,} generated images against "
                  f"{scores['protocol']['reals']:,} photographs; lower is better"),
        ("FID before", f"{scores['untrained']:.1f}, before this training"),
        ("FID now", f"{scores[metric]:.1f}, best at {scores['images_seen']:,} images seen"),
        ("floor", f"{scores['floor']:.1f}, one half of the photographs against the other"),
    ]  # fmt: skip
    version = find_registered(name, file_sha256(trained / "generator.safetensors"))
    if version is None:
        rows.append(("registered", f"not yet; run: facegan register {trained} {metrics} ..."))
    else:
        alias = "".join(f", @{alias}" for alias in version.aliases)
        rows.append(("registered", f"{name} version {version.version}, {version.stage}{alias}"))
        rows.append(("gate", version.reason))
    pictures = (evaluation / "samples.png", trained / "evolution.gif", trained / "samples")
    rows.append(("pictures", "  ".join(map(str, pictures))))
    return rows
