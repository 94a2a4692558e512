"""The space that a sweep searches: `train.lr=0.0004,0.0008`, `train.r1=log:0.01..1`."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from facegan.core.errors import FaceganError
from facegan.core.parsing import parse_json
from facegan.params import Params
from pipelines.overrides import key_and_value, override

if TYPE_CHECKING:
    from optuna import Trial

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"(log:)?({NUMBER})\.\.({NUMBER})")
SYNTAX = "KEY=VALUE,VALUE or KEY=LOW..HIGH or KEY=log:LOW..HIGH"
# Others change what a score means, so that FIDs could not be compared, or change no score.
SEARCHABLE = re.compile(r"seed|train\.\w+")
COMBINATION = re.compile(r"[\w.]+ is ")  # facegan.params: values that exclude one another
MAX_CHECKED = 10_000  # combinations


@dataclass(frozen=True)
class Choices:
    """Values to choose from, as JSON: Optuna stores neither lists nor types that are mixed."""

    texts: tuple[str, ...]

    @property
    def values(self) -> list[Any]:
        """All values, for checks and grids."""
        return [parse_json(text) for text in self.texts]

    def suggest(self, trial: "Trial", key: str) -> Any:
        """Return the trial's value."""
        return parse_json(trial.suggest_categorical(key, self.texts))


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; `log`: uniform in their logarithm."""

    low: float
    high: float
    log: bool
    integer: bool

    @property
    def values(self) -> list[Any]:
        """The bounds, for checks."""
        return [self.low, self.high]

    def suggest(self, trial: "Trial", key: str) -> Any:
        """Return the trial's value."""
        if self.integer:
            return trial.suggest_int(key, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(key, self.low, self.high, log=self.log)


Space = Mapping[str, Choices | Range]
Sampler = Literal["grid", "random", "tpe"]


def parse_space(search: Sequence[str], params: Params) -> Space:
    """Return what to search, by dotted key.

    Raises:
        FaceganError: with one line: the key, its value, and what would be valid.
    """
    space = dict[str, Choices | Range]()
    for text in search:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not (key and equals and value):
            raise FaceganError(f"{text!r}: valid: {SYNTAX}")
        if key in space:
            raise FaceganError(f"{key}: given twice; list all its values once: {SYNTAX}")
        space[key] = _domain(key, value, params)
    if not space:
        raise FaceganError(f"nothing to search; give at least one {SYNTAX}")
    for combination in itertools.islice(combinations(space), MAX_CHECKED):
        _check(combination, params)
    return space


def combinations(space: Space) -> Iterator[dict[str, Any]]:
    """All combinations of values, the last key changing fastest; of a range, its bounds."""
    for values in itertools.product(*(domain.values for domain in space.values())):
        yield dict(zip(space, values, strict=True))


def _domain(key: str, text: str, params: Params) -> Choices | Range:
    found = RANGE.fullmatch(text)
    domain = _range(key, found, params) if found else _choices(key, text)
    for value in domain.values:
        try:
            override(params, {key: value})
        except FaceganError as error:
            if COMBINATION.match(str(error)):
                continue  # another searched key may mend it
            line = str(error).partition("\n")[0]
            looks_like_range = ".." in text or text.startswith("log:")
            hint = "; ranges: LOW..HIGH, log:LOW..HIGH" if looks_like_range and not found else ""
            raise FaceganError(f"{line}{hint}") from None
    if not SEARCHABLE.fullmatch(key):
        reason = "changes what is scored, or no score; the FIDs of trials must be comparable"
        raise FaceganError(f"{key}: {reason}; valid: seed, and the keys of train")
    return domain


def _choices(key: str, text: str) -> Choices:
    try:
        values = parse_json(f"[{text}]")
    except ValueError:  # words
        values = [key_and_value(f"{key}={part.strip()}")[1] for part in text.split(",")]
    for value in values:
        if values.count(value) > 1:  # 1 and 1.0, too
            raise FaceganError(f"{key}: {json.dumps(value)}: listed twice")
    return Choices(tuple(json.dumps(value) for value in values))


def _range(key: str, found: re.Match[str], params: Params) -> Range:
    bounds = [_number(part) for part in found.groups()[1:]]
    low, high = bounds
    if not low < high:
        raise FaceganError(f"{key}: {found.group()}: valid: LOW..HIGH with LOW below HIGH")
    if found[1] and low <= 0:
        raise FaceganError(f"{key}: {found.group()}: valid: log:LOW..HIGH with LOW above 0")
    whole = all(isinstance(bound, int) for bound in bounds)
    return Range(low, high, bool(found[1]), whole and not _takes_fractions(key, low, params))


def _number(text: str) -> int | float:
    # An integer that Python does not parse, of 4,301 digits, is infinite as a float.
    return int(text) if re.fullmatch(r"[-+]?\d{1,4000}", text) else float(text)


def _takes_fractions(key: str, low: float, params: Params) -> bool:
    """Whether a parameter that takes the integer `low` takes fractions, too."""
    try:
        override(params, {key: low + 0.5})
    except FaceganError:
        return False
    return True


def _check(combination: dict[str, Any], params: Params) -> None:
    try:
        override(params, combination)
    except FaceganError as error:
        text = ", ".join(f"{key}={json.dumps(value)}" for key, value in combination.items())
        raise FaceganError(f"{text}: {error}") from None
