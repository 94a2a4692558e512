"""`metrics.json`, as far as registering needs it."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, TypeAdapter, ValidationError

from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.core.parsing import parse_json
from facegan.core.paths import require_file
from facegan.register.scores import COMPANIONS, WEIGHTS, Share
from facegan.register.validation import first_error

ADVICE = "run: dvc repro evaluate"
MAX_STEP = 2**63  # of MLflow's database


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)


class _Protocol(_Part):
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]  # part of a tag's name
    name: Annotated[str, Field(pattern=r"^[a-z0-9.]+_[A-Za-z0-9._-]+$")]  # a metric's name
    dtype: str
    seeds: Annotated[list[int], Field(min_length=1)]
    shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    data: str
    num_samples: PositiveInt
    num_real: PositiveInt
    comparability_note: str


class _SampleMetrics(_Part):
    images: Annotated[int, Field(ge=0)] = 0
    held_out: Annotated[int, Field(ge=0)] = 0


class _Metrics(_Part):
    """All but the scores."""

    generator: str
    reference: str = ""
    images_seen: Annotated[int, Field(ge=0, lt=MAX_STEP)]
    untrained_fids: Annotated[list[float], Field(min_length=1)] = [0.0]
    protocol: _Protocol
    sample_metrics: _SampleMetrics = _SampleMetrics()
    warnings: list[str] = []


_SCORES, _SHARES = TypeAdapter(dict[str, float]), TypeAdapter(dict[str, Share])
# Of few images, the jackknife's standard error of a share may exceed 1.
_ERRORS = TypeAdapter(dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]])


def read_metrics(path: Path, trained: Path, official: Path) -> dict[str, Any]:
    """Read `metrics.json`, and check that it has the scores of the generator in `trained`.

    Args:
        official: the statistics that they must have been computed with.
    Raises:
        FaceganError: if it cannot be read, lacks a score or has an invalid one, or belongs to
            another generator or other statistics.
    """
    require_file(path, "metrics.json, which facegan evaluate wrote")
    try:
        content = _parse(path.read_text("utf-8"))
    except ValidationError as error:
        raise FaceganError(f"{path}: no scores ({first_error(error)}); {ADVICE}") from None
    except (OSError, ValueError) as error:
        raise FaceganError(f"{path}: no scores ({error}); {ADVICE}") from None
    if content["generator"] != file_sha256(trained / WEIGHTS):
        raise FaceganError(f"{path}: computed for another generator; {ADVICE}")
    if "reference" in content and content["reference"] != file_sha256(official):
        raise FaceganError(f"{path}: computed with other statistics than {official}; {ADVICE}")
    return content


def _parse(text: str) -> dict[str, Any]:
    found = _Metrics.model_validate_json(text)
    content: dict[str, Any] = parse_json(text)
    metric = found.protocol.name
    label = metric.partition("_")[2]
    scores = {k: v for k, v in content.items() if label in k or k == "untrained_spread"}
    required = (metric, f"{metric}_spread", "untrained", "floor")
    # An FID may be NaN: the gate refuses it.
    _SCORES.validate_python({key: content.get(key) for key in required} | scores, strict=True)
    companions = {key: value for key, value in content.items() if key.startswith(COMPANIONS)}
    errors = {key: value for key, value in companions.items() if key.endswith("_stderr")}
    _ERRORS.validate_python(errors, strict=True)
    shares = {key: value for key, value in companions.items() if key not in errors}
    _SHARES.validate_python(shares, strict=True)
    return content
