"""`params.yaml` as frozen, typed models. Every value is in the file; code has no defaults."""

import difflib
import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from facegan.core.atomic import replacing
from facegan.core.errors import FaceganError
from facegan.core.paths import require_file

PRESETS = ("digits", "mnist", "celeba32", "celeba64", "faces128", "dcgan-paper")

VERSION = re.compile(r"models:/[^/@]+/\d+")
# Octal and sexagesimal in YAML 1.1 only; DVC, which reads 1.2, would record other numbers.
AMBIGUOUS = re.compile(r"[-+]?(0[0-7_]+$|[0-9_]+:)")
INCEPTION_SIZE = 299
# For scores: KID compares halves, precision and recall use the third nearest neighbour.
MIN_IMAGES = 8

Positive = Annotated[int, Field(ge=1, le=10**12)]
Dtype = Literal["bfloat16", "float32"]


def _reject_bool(value: Any) -> Any:
    # Python's True equals 1, so a Literal accepts it.
    if isinstance(value, bool):
        raise PydanticCustomError("bool", "valid: a number")
    return value


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Preprocess(_Section):
    # Not `size`: DVC's run cache ignores keys of that name.
    resolution: Literal[28, 32, 64, 128, 256]
    channels: Annotated[Literal[1, 3], BeforeValidator(_reject_bool)]
    crop: Literal["center", "box-108", "box-140", "box-148", "box-160", "box-178", "none"]
    resample: Literal["lanczos", "bicubic", "bilinear"]
    jpeg: Literal["scaled", "full"]
    background: Annotated[int, Field(ge=0, le=255)]
    min_side: Positive
    duplicates: Literal["drop", "keep"]
    near_duplicates: Annotated[int, Field(ge=0, le=32)] | None
    max_rejected: Annotated[float, Field(ge=0, le=1)]
    holdout: Annotated[float, Field(ge=0, lt=1)]


class Extractor(_Section):
    """A feature extractor and its settings that affect a score."""

    extractor: Literal["efficientnet-lite0", "inception"]
    input_size: Annotated[int, Field(ge=32, le=512)]
    dtype: Dtype

    @property
    def label(self) -> str:
        """The part of a metric's name that states the features."""
        fixed = self.extractor == "inception"
        return self.extractor if fixed else f"{self.extractor}-{self.input_size}"

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        if self.extractor == "inception" and self.input_size != INCEPTION_SIZE:
            raise ValueError(
                f"input_size is {self.input_size}; valid: {INCEPTION_SIZE} with extractor "
                "inception, which resizes images itself"
            )
        return self


class Reference(_Section):
    quick: Extractor
    official: Extractor
    subset: Annotated[Positive, Field(ge=MIN_IMAGES)]


Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Augmentation = Literal["brightness", "saturation", "contrast", "translation", "affine", "cutout"]


class Train(_Section):
    architecture: Literal[
        "dcgan", "resnet", "modulated-resnet", "deep-resnet", "residual", "stylegan2"
    ]
    latent_dim: Annotated[int, Field(ge=1, le=2**16)]
    base_channels: Annotated[int, Field(ge=1, le=2**16)]
    init_from: str | None
    batch_size: Annotated[Positive, Field(ge=2)]
    epochs: Positive
    loss: Literal["bce", "hinge", "relativistic"]
    lr: Rate
    discriminator_lr: Rate | None
    lr_decay_from: Positive | None
    beta1: Decay
    beta2: Decay
    r1: Weight
    r2: Weight
    lazy_reg_interval: Positive
    spectral_norm: bool
    hflip: bool
    augment: list[Augmentation]
    augment_target: Annotated[float, Field(gt=0.5, lt=1)] | None
    ema_half_life: Positive
    dtype: Dtype
    eval_interval: Positive
    quick_num_samples: Annotated[Positive, Field(ge=2)]
    patience: Positive | None
    on_collapse: Literal["warn", "stop"]

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        start = self.init_from or ""
        if start.startswith("models:") and not VERSION.fullmatch(start):
            raise ValueError(
                f"train.init_from is {start}; valid: null, a folder, or models:/NAME/3, "
                "with a version number, because stages and aliases move"
            )
        if self.eval_interval < self.batch_size:
            raise ValueError(
                f"train.eval_interval is {self.eval_interval}; valid: batch_size or more"
            )
        if self.spectral_norm and self.architecture in ("residual", "stylegan2"):
            name = self.architecture  # of weights that are zero at first, or scaled at run time
            raise ValueError(f"train.spectral_norm is true; valid: false with architecture {name}")
        if self.augment_target is not None and not self.augment:
            target = self.augment_target
            raise ValueError(f"train.augment_target is {target}; valid: null with augment []")
        if len(set(self.augment)) < len(self.augment):
            raise ValueError(f"train.augment is {self.augment}; valid: each at most once")
        return self


class Evaluate(_Section):
    num_samples: Annotated[Positive, Field(ge=MIN_IMAGES)]


class Policy(_Section):
    """The numbers of the promotion gate, `facegan.register.gate`."""

    max_memorised: Share
    max_recall_drop: Share
    max_precision_drop: Share
    min_progress: Annotated[float, Field(ge=0, lt=1)]
    min_improvement: Annotated[float, Field(ge=0, lt=1)]
    noise: Weight


class Register(_Section):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    terms: str
    approval: Literal["automatic", "manual"]
    policy: Policy


class Params(_Section):
    """All of `params.yaml`: the seed, and one section per stage that has parameters."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    preprocess: Preprocess
    reference: Reference
    train: Train
    evaluate: Evaluate
    # With an underscore, because pydantic models have a method `register`.
    register_: Annotated[Register, Field(alias="register")]


class UniqueKeyLoader(yaml.SafeLoader):
    """Rejects duplicate keys, of which YAML silently takes the last, and ambiguous numbers."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        text, kind = str(node.value)[:40], node.tag.rpartition(":")[2]
        try:
            if kind in ("int", "float") and AMBIGUOUS.match(text):
                raise ValueError
            return super().construct_object(node, deep)
        except (AttributeError, IndexError, OverflowError, ValueError):
            line = node.start_mark.line + 1
            raise yaml.YAMLError(f"line {line}: {text} is not a plain {kind}") from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        own = [pair for pair in node.value if not pair[0].tag.endswith(":merge")]
        keys = [self.construct_object(key) for key, _ in own]
        for (key_node, _), key in zip(own, keys, strict=True):
            if keys.count(key) > 1:
                line = key_node.start_mark.line + 1
                raise yaml.YAMLError(f"line {line}: duplicate key {key}")
        return super().construct_mapping(node, deep)


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and validate the parameters.

    Raises:
        FaceganError: with one line per invalid key: the key, its value and the valid values.
    """
    require_file(path, "a params.yaml; write one with: facegan preset digits")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), UniqueKeyLoader)
    except FileNotFoundError:
        raise FaceganError(f"{path}: not found; write one with: facegan preset digits") from None
    except OSError as error:
        raise FaceganError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise FaceganError(f"{path}: invalid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise FaceganError(f"{path}: expected a mapping; valid keys: {', '.join(_keys(Params))}")
    return validated(content, f"{path}: ")


def validated(content: dict[str, Any], prefix: str = "") -> Params:
    """Return the parameters, or raise a FaceganError with one line per invalid key."""
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        lines = [f"{prefix}{_explain(detail)}" for detail in error.errors()]
        raise FaceganError("\n".join(lines)) from None


def _explain(detail: Any) -> str:
    """One line for one pydantic error: the key, the value and the valid values."""
    key, value = ".".join(map(str, detail["loc"])), detail["input"]
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            valid = _keys(_section_at(detail["loc"][:-1]))
            close = difflib.get_close_matches(str(detail["loc"][-1]), valid, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            return f"{key}: {value!r}: unknown key; {hint}valid keys: {', '.join(valid)}"
        case "missing":
            return f"{key}: missing; every key is required (facegan preset writes a complete file)"
        case "literal_error":
            return f"{key}: {value!r} is not supported; valid: {context['expected']}"
        case "string_pattern_mismatch":
            return f"{key}: {value!r}: valid: letters, digits, '.', '_' and '-'"
        case "float_type" | "int_type" if isinstance(value, str):
            example = "0.0002 (YAML reads 2e-4 as a string, and 2.0e-4 as a number)"
            example = example if detail["type"] == "float_type" else "64"
            return f"{key}: {value!r} is a string; valid: an unquoted number, such as {example}"
        case "model_type":
            valid = _keys(_section_at(detail["loc"]))
            return f"{key}: {value!r}: expected a mapping; valid keys: {', '.join(valid)}"
        case "value_error":
            return str(context["error"])
        case _:
            return f"{key}: {value!r}: {detail['msg']}"


def _section_at(location: tuple[str | int, ...]) -> type[BaseModel]:
    model: type[BaseModel] = Params
    for name in location:
        field = next(f for n, f in model.model_fields.items() if (f.alias or n) == name)
        assert isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        model = field.annotation
    return model


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def preset_text(name: str) -> str:
    """Return the `params.yaml` of a preset.

    Raises:
        FaceganError: if there is no such preset.
    """
    if name not in PRESETS:
        raise FaceganError(f"preset {name!r} does not exist; valid: auto, {', '.join(PRESETS)}")
    return resources.files("facegan").joinpath("presets", f"{name}.yaml").read_text("utf-8")


def write_preset(name: str, path: Path, force: bool) -> None:
    """Write a preset's text to `path`; errors are those of `write_params`."""
    write_params(preset_text(name), path, force)


def write_params(text: str, path: Path, force: bool) -> None:
    """Write `text` to `path`. A file that is not an unmodified preset is kept, unless `force`.

    Raises:
        FaceganError: if the file at `path` is kept.
    """
    require_file(path, "a file to write, such as params.yaml")
    if path.exists() and not force:
        existing = path.read_text("utf-8", "replace")
        if existing not in {preset_text(preset) for preset in PRESETS}:
            raise FaceganError(f"{path}: differs from every preset; --force overwrites it")
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")
