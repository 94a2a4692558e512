"""The model card: what a version generates, from what, how well, and how to load it."""

from pathlib import Path
from typing import Any

from facegan.core.history import NAME, read_history
from facegan.register.files import MAX_LATENTS

CARD, SAMPLES = "card.md", "samples.png"  # attached to the version
# Parameters that name a training best; the run has all of them.
HYPERPARAMETERS = ("architecture", "loss", "lr", "batch_size", "epochs", "base_channels", "augment")


def text(name: str, terms: str, content: dict[str, Any], trained: Path) -> str:
    """The card as Markdown.

    Args:
        terms: those of the photographs.
        content: that of `metrics.json`.
        trained: the folder that `train` wrote.
    """
    start, protocol = read_history(trained / NAME)[0], content["protocol"]
    note = protocol["comparability_note"] or "comparable with published FIDs"
    size, _, channels = protocol["shape"]
    hyperparameters = ", ".join(
        f"{k} {v}" for k, v in start["train"].items() if k in HYPERPARAMETERS
    )
    return f"""# {name}

**Generates** {size}x{size} {"grey" if channels == 1 else "RGB"} images like the photographs that \
it was trained on, from standard normal latents.

**Data**: {start["images"]:,} images (sha256 {protocol["data"][:12]}); \
{protocol.get("preprocessing", "preprocessing not recorded")}. Terms: {terms}.

**Hyperparameters**: {hyperparameters or "see the run's parameters"}; seed {start["seed"]}, \
{content["images_seen"]:,} images seen.

**Scores** under protocol {protocol["id"]}:

{_scores(content)}

**Limits**: it generates only what its photographs show, with their biases. \
{note[:1].upper()}{note[1:]}. \
`memorised` finds copies of training images, not of people.

**Licence**: the code is Apache-2.0. The weights come from the photographs, whose terms apply.

**Load**: `mlflow.pyfunc.load_model("models:/{name}/Production").predict(z)`, with \
`z` float32 (n, latent_dim), n up to {MAX_LATENTS}; or \
`facegan sample models:/{name}/Production faces.png`.
"""


def _scores(content: dict[str, Any]) -> str:
    metric = content["protocol"]["name"]
    rows = [
        ("FID", f"{metric} {content[metric]:g} ± {content[f'{metric}_spread']:g}"),
        ("before training", f"{content['untrained']:g}"),
        ("floor, between two halves of the real images", f"{content['floor']:g}"),
    ]
    for end, photographs in (
        ("_heldout", "held-out photographs"),
        ("_train", "as many training ones"),
    ):
        key = next((k for k in content if k.startswith("fid") and k.endswith(end)), None)
        if key is not None:
            rows.append((f"FID against {photographs}", f"{content[key]:g}"))
    for name in ("precision", "recall", "memorised"):
        value = next((v for key, v in content.items() if key.startswith(name)), None)
        rows.append((name, "not computed" if value is None else f"{value:g}"))
    return "\n".join(["| score | value |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows)])


def write(folder: Path, card: str, content: dict[str, Any], trained: Path) -> list[Path]:
    """Write the card and, if the training kept them, the samples of its snapshot.

    Returns:
        The files.
    """
    path, samples = folder / CARD, folder / SAMPLES
    snapshot = trained / "samples" / f"{content['images_seen']:010d}.png"
    if not snapshot.is_file():
        path.write_text(card, "utf-8")
        return [path]
    samples.write_bytes(snapshot.read_bytes())
    path.write_text(f"{card}\n![samples]({SAMPLES})\n", "utf-8")
    return [path, samples]
