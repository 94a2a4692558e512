"""What a pipeline's artifacts and the registry say about its result."""

import json
from pathlib import Path
from typing import Any

from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.register.versions import find_registered


def summary(trained: Path, metrics: Path, evaluation: Path, name: str) -> list[tuple[str, str]]:
    """Rows (what, value) for a table, read from the artifacts and the registry.

    Raises:
        FaceganError: if there are no scores yet, or MLflow cannot be reached.
    """
    try:
        scores = json.loads(metrics.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise FaceganError(f"{metrics}: no scores ({error}); run: dvc repro") from None
    protocol = scores["protocol"]
    metric = protocol["name"]
    rows = [
        ("protocol", f"{metric}: {protocol['latents']} times {protocol['num_samples']:,} generated "
                     f"images against {protocol['num_real']:,} photographs; lower is better"),
        ("FID before", f"{scores['untrained']:.1f}, before this training"),
        ("FID now", f"{scores[metric]:.1f} ± {scores[f'{metric}_spread']:.1f}, "
                    f"best at {scores['images_seen']:,} images seen"),
        ("floor", f"{scores['floor']:.1f}, one half of the photographs against the other"),
        *_companions(scores),
    ]  # fmt: skip
    if note := protocol["comparability_note"]:
        rows.insert(1, ("", note))
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


def _companions(scores: dict[str, Any]) -> list[tuple[str, str]]:
    """What else is known of the images, by the metric's first word."""
    meanings = {
        "kid": "lower is better",
        "precision": "of the generated images that might be photographs",
        "recall": "of the photographs that might have been generated",
        "memorised": "of the generated images as near to a photograph as 0.01 of new ones are",
    }
    found = ((word, [key for key in scores if key.startswith(word)]) for word in meanings)
    return [(word, f"{scores[keys[0]]:.3g}, {meanings[word]}") for word, keys in found if keys]
