"""The note of an MLflow run: its scores, and how to load its generator."""

from typing import Any

from mlflow.entities import Run

TAG = "mlflow.note.content"
HEAD = "<!-- written by facegan register; a note without this line is kept -->"
MEANINGS = {
    "kid": "lower is better",
    "precision": "share of generated images within the manifold of real images",
    "recall": "share of real images within the manifold of generated images",
    "memorised": "share of samples closer to a training image than 99% of held-out images",
}
# Of FIDs besides the official one, by the end of their key.
FIDS = {
    "_heldout": "FID against held-out photographs",
    "_train": "FID against as many training photographs",
}


def is_ours(text: str) -> bool:
    """Whether the note may be replaced."""
    return not text or text.startswith(HEAD)


def text(run: Run, scores: dict[str, Any]) -> str:
    """The note in Markdown.

    Args:
        scores: content of `metrics.json`.
    """
    protocol, name = scores["protocol"], scores["protocol"]["name"]
    rows = [
        (name, scores[name], "lower is better"),
        ("floor", scores["floor"], "between two halves of the real images"),
        ("untrained", scores["untrained"], "before the first step"),
    ]
    rows += [
        (key, value, meaning)
        for key, value in scores.items()
        if (meaning := _meaning(key)) and isinstance(value, int | float)
    ]
    table = "\n".join(f"| {key} | {value:.4g} | {meaning} |" for key, value, meaning in rows)
    comparability = protocol["comparability_note"]
    return (
        f"{HEAD}\n\n"
        f"Best snapshot at {scores['images_seen']:,} images seen"
        f"{f'; the scores are {comparability}' if comparability else ''}.\n\n"
        f"| score | value | meaning |\n|---|---|---|\n{table}\n\n"
        "```python\nimport mlflow, numpy\n\n"
        f'generator = mlflow.pyfunc.load_model("runs:/{run.info.run_id}/generator")\n'
        f"z = numpy.random.default_rng(0).standard_normal((16, {_latent_dim(run)}), "
        'dtype="float32")\n'
        "images = generator.predict(z)  # uint8 (16, H, W, C)\n```\n"
    )


def _meaning(key: str) -> str | None:
    ends = FIDS if key.startswith("fid") else {}
    found = [meaning for word, meaning in MEANINGS.items() if key.startswith(word)]
    found += [meaning for end, meaning in ends.items() if key.endswith(end)]
    return next(iter(found), None)


def _latent_dim(run: Run) -> str:
    return str(run.data.params.get("train.latent_dim", "latent_dim"))
