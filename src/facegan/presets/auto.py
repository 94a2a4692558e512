"""A `params.yaml` chosen by the number and size of the photographs."""

import hashlib
import math
import re
from pathlib import Path

from facegan.core.errors import FaceganError
from facegan.params import MIN_IMAGES, preset_text
from facegan.presets.survey import Photographs

# Share of the photographs that have to reach the resolution.
LARGE_ENOUGH = 0.9
# Grey images from which on the preset is mnist's, and photographs in colour whose short side has
# celeba64's resolution. faces128 is not chosen: it has not been measured.
MANY_GREY, LARGE = 20_000, 64
# Images seen in the trainings that the presets were measured with (docs/ablations.md).
IMAGES_SEEN = {"digits": 40_000, "mnist": 1_600_000, "celeba32": 180_000, "celeba64": 180_000}
# Photographs below which the discriminator is augmented, more often while its accuracy is above the
# target (docs/ablations.md).
FEW, TARGET = 2000, 0.7
# Photographs from which on a tenth is held out, enough for a score of memorisation.
HOLD_OUT = 300
# Generated images of a score, at least: more than the 1,280 features, or the FID is biased.
MIN_SAMPLES = 1500
# Training images from which on a batch has so many.
BATCHES = ((128, 32), (32, 16), (16, 8), (0, 4))
AUGMENT = ("brightness", "saturation", "contrast", "translation", "affine")
HEADER = re.compile(r"# auto ([0-9a-f]{12}): ")
COMMENT_COLUMN = 28


def auto_preset(photographs: Photographs) -> str:
    """A complete `params.yaml`: a measured preset, with the values that depend on the photographs.

    Raises:
        FaceganError: if there are too few photographs.
    """
    base = _base(photographs)
    text = preset_text(base)
    resolution, min_side = _number(text, "resolution"), _number(text, "min_side")
    min_side = min(min_side, _reached(photographs))
    sides = photographs.short_sides
    smaller = sum(side < min_side for side in sides) / max(len(sides), 1)
    count = math.floor(photographs.count * (1 - smaller))
    if count < MIN_IMAGES:
        raise FaceganError(
            f"{count} usable photographs; at least {MIN_IMAGES} are required, and thousands advised"
        )
    rejected = photographs.unusable + (1 - photographs.unusable) * smaller
    changes = {
        "channels": (1 if photographs.is_grey else 3, "1: grey, 3: RGB"),
        "min_side": (min_side, "pixels; photographs with a shorter side are rejected"),
        "max_rejected": (
            _max_rejected(count, rejected),
            f"share of inputs; {rejected:.1%} in the sample",
        ),
        "name": (
            f"facegan-auto{resolution}{'-grey' * photographs.is_grey}",
            "in MLflow's registry",
        ),
        "terms": ("not stated", "of the photographs; in the model card"),
        **_training(text, count, photographs.is_grey, IMAGES_SEEN[base]),
        **_scores(text, count),
    }
    for key, (value, comment) in changes.items():
        text = _with(text, key, value, comment)
    _, _, body = text.partition("\n")
    colour = "grey" if photographs.is_grey else "colour"
    title = (
        f"{count:,} photographs in {colour}, short sides of {_reached(photographs)} pixels: "
        f"{base} with {_number(text, 'epochs'):,} epochs, batches of {_number(text, 'batch_size')}"
    )
    return f"# auto {_digest(body)}: {title}\n{body}"


def is_auto(path: Path) -> bool:
    """Whether the file at `path` is what `auto_preset` returned, unmodified."""
    text = path.read_text("utf-8", "replace") if path.is_file() else ""
    header = HEADER.match(text)
    return header is not None and header[1] == _digest(text.partition("\n")[2])


def title(text: str) -> str:
    """The first line of what `auto_preset` returned, without the digest."""
    return f"preset auto for {HEADER.sub('', text).partition(chr(10))[0]}"


def _base(photographs: Photographs) -> str:
    if _reached(photographs) >= LARGE:
        return "celeba64"
    if not photographs.is_grey:
        return "celeba32"
    return "mnist" if photographs.count >= MANY_GREY else "digits"


def _reached(photographs: Photographs) -> int:
    """The short side that LARGE_ENOUGH of the photographs have, in pixels."""
    descending = sorted(photographs.short_sides, reverse=True)
    return descending[math.ceil(LARGE_ENOUGH * len(descending)) - 1] if descending else 1


def _max_rejected(count: int, rejected: float) -> float:
    """Twice what the sample leads to expect; with few photographs, a tenth."""
    return min(1.0, max(0.1 if count < FEW else 0.01, math.ceil(200 * rejected) / 100))


def _training(
    text: str, count: int, is_grey: bool, images_seen: int
) -> dict[str, tuple[object, str]]:
    """Values of the training, by key, with comments."""
    holdout = 0.1 if count >= HOLD_OUT else 0.0
    trained = count - math.ceil(holdout * count)
    fitting = next(size for least, size in BATCHES if trained >= least)
    batch = min(fitting, _number(text, "batch_size"))
    per_epoch = trained // batch * batch
    epochs = max(_number(text, "epochs"), round(images_seen / per_epoch))
    changes: dict[str, tuple[object, str]] = {
        "holdout": (holdout, f"memorised needs 20 held-out images: {HOLD_OUT} photographs"),
        "batch_size": (batch, f"{per_epoch // batch} steps per epoch"),
        "epochs": (epochs, f"{epochs * per_epoch:,} images seen"),
    }
    if is_grey:
        changes["hflip"] = (False, "true for faces; mirrored digits are wrong")
    if count < FEW:
        names = [name for name in AUGMENT if not (is_grey and name == "saturation")]
        changes["augment"] = (f"[{', '.join(names)}]", "few photographs: Karras et al. 2020")
        changes["augment_target"] = (TARGET, "accuracy above which they are applied more often")
        interval = _number(text, "eval_interval") // 2
        changes["eval_interval"] = (interval, "images between quick FIDs; the best may come early")
    return changes


def _scores(text: str, count: int) -> dict[str, tuple[object, str]]:
    """Numbers of images that scores are computed from, by key, with comments."""
    comments = {
        "quick_num_samples": "generated images per quick FID; more than 1,280 features",
        "num_samples": "generated images per FID; the score is the mean of three",
    }
    samples = {key: min(_number(text, key), max(MIN_SAMPLES, count)) for key in comments}
    subset = min(_number(text, "subset"), count)
    return {
        "subset": (subset, "training images whose features are stored; as many held-out ones"),
        **{key: (samples[key], comment) for key, comment in comments.items()},
    }


def _number(text: str, key: str) -> int:
    found = re.search(rf"(?m)^ +{key}: (\d+)", text)
    assert found is not None, key
    return int(found[1])


def _with(text: str, key: str, value: object, comment: str) -> str:
    """Replace the value and the comment of a key that occurs once, unless it has that value."""
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    line = f"  {key}: {shown}"
    if re.search(rf"(?m)^{re.escape(line)}(?= |$)", text):
        return text
    commented = line.ljust(COMMENT_COLUMN - 1) + f" # {comment}"
    changed, count = re.subn(rf"(?m)^  {key}: .*$", lambda _: commented, text)
    assert count == 1, key
    return changed


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:12]
