"""The syntax of what a sweep searches."""

import json
import re
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import make_params
from facegan.core.errors import FaceganError
from pipelines.search_space import Choices, Range, parse_space

PARAMS = make_params()
RATES = st.floats(1e-6, 1e3)
WORDS = st.sampled_from(["bce", "hinge", "relativistic"])


def draw(domain: Choices | Range, key: str, seed: int) -> Any:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    return domain.suggest(study.ask(), key)


@given(st.lists(RATES, min_size=1, max_size=5, unique=True), st.integers(0, 99))
def test_listed_values_are_read_and_drawn_as_they_are(values: list[float], seed: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    domain = parse_space([f"train.lr={','.join(map(repr, values))}"], PARAMS)["train.lr"]
    assert domain.values == values
    assert draw(domain, "train.lr", seed) in values


@given(st.lists(WORDS, min_size=1, unique=True), st.sampled_from([",", ", "]), st.booleans())
def test_words_need_no_quotes_but_may_have_them(words: list[str], comma: str, quoted: bool) -> None:
    texts = [json.dumps(word) if quoted else word for word in words]
    assert parse_space([f"train.loss={comma.join(texts)}"], PARAMS)["train.loss"].values == words


@given(RATES, RATES, st.booleans(), st.integers(0, 99))
def test_values_of_a_range_lie_in_it(one: float, other: float, log: bool, seed: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    text = f"train.r1={'log:' * log}{one!r}..{other!r}"
    if one >= other:
        with pytest.raises(FaceganError, match="LOW below HIGH"):
            parse_space([text], PARAMS)
        return
    domain = parse_space([text], PARAMS)["train.r1"]
    assert domain == Range(one, other, log, integer=False)
    assert one <= draw(domain, "train.r1", seed) <= other


@given(st.integers(1, 50), st.integers(51, 99), st.integers(0, 99))
def test_a_range_has_the_type_of_its_key(low: int, high: int, seed: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = parse_space([f"train.epochs={low}..{high}", f"train.r1={low}..{high}"], PARAMS)
    assert isinstance(draw(space["train.epochs"], "train.epochs", seed), int)
    assert isinstance(draw(space["train.r1"], "train.r1", seed), float)


def test_values_may_be_lists_or_null() -> None:
    space = parse_space(['train.augment=[],["cutout"]', "train.init_from=null,models:/x/3"], PARAMS)
    assert [domain.values for domain in space.values()] == [
        [[], ["cutout"]],
        [None, "models:/x/3"],
    ]


def test_values_that_need_one_another_are_valid_together() -> None:
    interval = 2 * PARAMS.train.eval_interval
    parse_space([f"train.batch_size={interval}", f"train.eval_interval={interval}"], PARAMS)


@given(st.text(max_size=30))
def test_any_text_is_a_space_or_one_line(text: str) -> None:
    try:
        parse_space([text], PARAMS)
    except FaceganError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ([], "nothing to search; give at least one KEY=VALUE,VALUE or KEY=LOW..HIGH"),
        (["train.lr"], "'train.lr': valid: KEY=VALUE,VALUE or "),
        (["train.lrr=1"], "train.lrr: 1: unknown key; did you mean lr?"),
        (["train.loss=bce,hing"], "train.loss: 'hing' is not supported; valid: 'bce', "),
        (["train.beta1=0.5..2"], "train.beta1: 2: Input should be less than 1"),
        (["train.lr=1..x"], "ranges: LOW..HIGH, log:LOW..HIGH"),
        (["train.r1=log:0..1"], "train.r1: log:0..1: valid: log:LOW..HIGH with LOW above 0"),
        (["train.epochs=0.5..4"], "train.epochs: 0.5: "),
        (["train.lr=1,1"], "train.lr: 1: listed twice"),
        (["train.lr=1,1.0"], "train.lr: 1: listed twice"),
        ([f"train.lr=1..{'9' * 5000}"], "train.lr: inf: Input should be a finite number"),
        ([f"train.lr={'[' * 100_000}"], "is a string; valid: an unquoted number"),
        (["train.lr=1", "train.lr=2"], "train.lr: given twice"),
        (["evaluate.num_samples=100,200"], "evaluate.num_samples: changes what is scored"),
        (["train.augment=[[1],[2]]"], "train.augment.0: "),
        (
            ["train.batch_size=32,64", "train.eval_interval=32,1000"],
            "train.batch_size=64, train.eval_interval=32: train.eval_interval is 32; valid: ",
        ),
    ],
)
def test_what_is_wrong_is_one_line(search: list[str], message: str) -> None:
    with pytest.raises(FaceganError, match=re.escape(message)) as error:
        parse_space(search, PARAMS)
    assert "\n" not in str(error.value)
