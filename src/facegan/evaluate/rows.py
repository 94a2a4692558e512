"""Scores as rows of a table: name and value in words."""

from typing import Any

from facegan.core.numbers import significant

MEANINGS = {
    "kid": "lower is better",
    "precision": "share of generated images within the manifold of real images",
    "recall": "share of real images within the manifold of generated images",
    "memorised": "share of samples closer to a training image than 99% of held-out images are",
}


def score_rows(scores: dict[str, Any]) -> list[tuple[str, str]]:
    """Of what `score` returns."""
    protocol = scores["protocol"]
    fid = f"{scores[protocol['name']]:.1f}, {protocol['num_samples']:,} images against "
    rows = [
        ("protocol", protocol["name"]),
        ("", protocol["comparability_note"]),
        ("FID", f"{fid}{protocol['num_real']:,} real images; lower is better"),
        ("floor", f"{scores['floor']:.1f}, between two halves of the real images"),
        *companion_rows(scores),
    ]
    return [row for row in rows if row[1]]


def companion_rows(scores: dict[str, Any]) -> list[tuple[str, str]]:
    """The scores beside the FID, by the first word of their key; why others are missing; warnings.

    Args:
        scores: content of `metrics.json`, or what `score` returns.
    """
    rows = _heldout_row(scores)
    for name, meaning in MEANINGS.items():
        if name in scores["omitted"]:
            rows.append((name, f"no score: {scores['omitted'][name]}"))
            continue
        key = next(key for key in scores if key.startswith(name))
        value, error = significant(scores[key], 3), f"± {significant(scores[f'{key}_stderr'], 1)}"
        if name == "memorised":
            expected = f"{significant(scores[f'{key}_expected'], 2)} {error} is expected"
            rows.append((name, f"{value}, {meaning}; {expected}"))
        else:
            rows.append((name, f"{value} {error}, {meaning}"))
    return rows + [("warning", warning) for warning in scores["warnings"]]


def _heldout_row(scores: dict[str, Any]) -> list[tuple[str, str]]:
    if reason := scores["omitted"].get("fid_heldout"):
        return [("held-out", f"no score: {reason}")]
    key = next((k for k in scores if k.startswith("fid") and k.endswith("_heldout")), None)
    if key is None:  # scored before this score was there
        return []
    metric = key.removesuffix("_heldout")
    found = {k: scores[f"{metric}_{k}"] for k in ("train", "gap", "gap_stderr", "heldout_floor")}
    return [
        (
            "held-out",
            f"{scores[key]:.1f}, FID against {scores['heldout_metrics']['photographs']:,} "
            f"photographs never trained on (floor {found['heldout_floor']:.1f}); "
            f"{found['train']:.1f} against as many training photographs; difference "
            f"{significant(found['gap'], 2)} ± {significant(found['gap_stderr'], 1)}, "
            "0 without overfitting",
        )
    ]
