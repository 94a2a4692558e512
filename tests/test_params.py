import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from commands import error_lines, invoke
from conftest import make_params
from facegan.core.errors import FaceganError
from facegan.params import PRESETS, load_params, preset_text, write_preset

CONTENT: dict[str, Any] = make_params().model_dump(by_alias=True)


def leaves(content: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in content.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from leaves(value, f"{key}.")
        else:
            yield key


KEYS = list(leaves(CONTENT))
SECTIONS = ["preprocess", "reference", "reference.quick", "reference.official", "train"]
CHOICES = (
    *("extractor", "dtype", "crop", "resample", "jpeg", "preprocess.duplicates"),
    *("architecture", "loss", "on_collapse", "approval"),
)
TEXTS = [key for key in KEYS if key.endswith((*CHOICES, "name", "init_from", "terms"))]
POLICY = [key for key in KEYS if key.startswith("register.policy.")]
FLOATS = [
    *("preprocess.holdout", "preprocess.max_rejected", "train.lr", "train.discriminator_lr"),
    *("train.beta1", "train.beta2", "train.r1", "train.r2", "train.augment_target", *POLICY),
]
MAY_BE_NONE = (
    *("preprocess.near_duplicates", "train.discriminator_lr", "train.patience", "train.init_from"),
    *("train.lr_decay_from", "train.augment_target"),
)


def changed(key: str, value: Any) -> dict[str, Any]:
    """Valid content with one key changed."""
    content: dict[str, Any] = json.loads(json.dumps(CONTENT))
    *sections, name = key.split(".")
    parent = content
    for section in sections:
        parent = parent[section]
    parent[name] = value
    return content


def value_of(key: str) -> Any:
    value: Any = CONTENT
    for name in key.split("."):
        value = value[name]
    return value


def without(key: str) -> dict[str, Any]:
    content = changed(key, None)
    *sections, name = key.split(".")
    parent = content
    for section in sections:
        parent = parent[section]
    del parent[name]
    return content


def errors(path: Path, content: Any) -> list[str]:
    """The lines of the error that loading `content` raises."""
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(FaceganError) as caught:
        load_params(path)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "params.yaml"


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid_and_registers_under_its_own_name(name: str, path: Path) -> None:
    write_preset(name, path, force=False)
    assert path.read_text() == preset_text(name)
    assert load_params(path).register_.name == f"facegan-{name}"


def test_params_round_trip(path: Path) -> None:
    path.write_text(json.dumps(CONTENT))
    assert load_params(path) == make_params()


@pytest.mark.parametrize("key", KEYS)
def test_a_value_of_the_wrong_type_is_named_with_its_key(key: str, path: Path) -> None:
    wrong: list[Any] = [None, True, [], {}, "12"]
    if key in TEXTS:
        wrong.remove("12")
        any_text = key.endswith(("name", "terms", "init_from"))
        wrong += [12, 1.5] + ([] if any_text else ["unheard-of"])
    elif key not in FLOATS:
        wrong += [2.5]
    if key in MAY_BE_NONE:
        wrong.remove(None)
    if isinstance(value_of(key), bool):
        wrong.remove(True)
    if key == "train.augment":
        wrong.remove([])
    for value in wrong:
        (line,) = errors(path, changed(key, value))
        assert line.startswith(f"{key}: {value!r}")


@pytest.mark.parametrize("twice", ["seed: 0\nseed: 1\n", "train:\n  lr: 0.1\n  lr: 0.1\n"])
def test_a_duplicate_key_is_named_with_its_line(twice: str, path: Path) -> None:
    (line,) = errors(path, twice)
    key = twice.split()[-2].rstrip(":")
    assert line.endswith(f"line {twice.count(chr(10)) - 1}: duplicate key {key}")


MAY_BE_ZERO = (
    *("seed", "train.beta1", "preprocess.holdout", "preprocess.max_rejected"),
    *("preprocess.background", "preprocess.near_duplicates"),
    *("train.beta2", "train.r1", "train.r2", *POLICY),
)


@pytest.mark.parametrize("key", sorted(set(KEYS) - set(TEXTS)))
def test_a_number_out_of_range_is_named_with_its_key(key: str, path: Path) -> None:
    out_of_range: list[float] = [-1]
    out_of_range += [0] if key not in MAY_BE_ZERO else []
    out_of_range += [1.0] if key in ("preprocess.holdout", "train.beta1", "train.beta2") else []
    out_of_range += [1] if key.endswith(("batch_size", "num_samples", "input_size")) else []
    out_of_range += [2**32] if key in ("seed", "preprocess.channels") else []
    is_share = key == "preprocess.max_rejected" or (key in POLICY and not key.endswith("noise"))
    out_of_range += [1.01] if is_share else []
    out_of_range += [256] if key == "preprocess.background" else []
    out_of_range += [33] if key == "preprocess.near_duplicates" else []
    out_of_range += [10**21] if key not in FLOATS else []
    out_of_range += [10**6] if key in ("train.base_channels", "train.latent_dim") else []
    for value in out_of_range:
        (line,) = errors(path, changed(key, value))
        assert line.startswith(f"{key}: {value!r}")


@pytest.mark.parametrize("key", FLOATS)
@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan"])
def test_infinity_and_nan_are_refused(key: str, value: str, path: Path) -> None:
    (line,) = errors(path, json.dumps(changed(key, "HERE")).replace('"HERE"', value))
    assert line.startswith(f"{key}: {value.replace('.', '')}")


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_required(key: str, path: Path) -> None:
    (line,) = errors(path, without(key))
    assert line.startswith(f"{key}: missing")


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_must_be_a_mapping(section: str, path: Path) -> None:
    (line,) = errors(path, changed(section, 5))
    assert line.startswith(f"{section}: 5: expected a mapping; valid keys: ")


@pytest.mark.parametrize("section", ["", *(f"{section}." for section in SECTIONS)])
@given(name=st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1), value=...)
def test_an_unknown_key_is_named_with_its_value_and_the_valid_keys(
    section: str, name: str, value: int, tmp_path: Path
) -> None:
    valid = list(
        dict.fromkeys(key[len(section) :].split(".")[0] for key in KEYS if key.startswith(section))
    )
    assume(name not in valid)
    (line,) = errors(tmp_path / "params.yaml", changed(f"{section}{name}", value))
    assert line.startswith(f"{section}{name}: {value!r}: unknown key")
    assert line.endswith(f"valid keys: {', '.join(valid)}")


@pytest.mark.parametrize(
    ("key", "suggested"),
    [("train.learning_rate", None), ("train.batchsize", "batch_size"), ("tran", "train")],
)
def test_an_unknown_key_suggests_the_closest_valid_one(
    key: str, suggested: str | None, path: Path
) -> None:
    (line,) = errors(path, changed(key, 1))
    assert ("did you mean" in line) == (suggested is not None)
    assert suggested is None or f"did you mean {suggested}?" in line


@pytest.mark.parametrize("written", ["2e-4", "1E-5", '"0.0002"'])
def test_a_number_that_yaml_reads_as_a_string_is_refused_with_advice(
    written: str, path: Path
) -> None:
    text = re.sub(r"(?m)^  lr: \S+", f"  lr: {written}", preset_text("digits"))
    (line,) = errors(path, text)
    value = written.strip('"')
    assert line.startswith(f"train.lr: {value!r} is a string")
    assert "0.0002 (YAML reads 2e-4 as a string" in line


@pytest.mark.parametrize("size", [0, 48, 100, 512])
def test_an_unsupported_resolution_is_refused_with_the_supported_ones(
    size: int, path: Path
) -> None:
    assert errors(path, changed("preprocess.resolution", size)) == [
        f"preprocess.resolution: {size} is not supported; valid: 28, 32, 64, 128 or 256"
    ]


@pytest.mark.parametrize("name", ["", "two words", "-x", "a/b", "a:b", "line\nfeed", "x\n"])
def test_a_model_name_that_mlflow_does_not_accept_is_refused(name: str, path: Path) -> None:
    (line,) = errors(path, changed("register.name", name))
    assert line.startswith(f"register.name: {name!r}: valid: letters, digits")


def test_an_interval_shorter_than_a_batch_is_refused(path: Path) -> None:
    content = changed("train.batch_size", 30)
    content["train"]["eval_interval"] = 30
    path.write_text(json.dumps(content))
    assert load_params(path).train.eval_interval == 30
    content["train"]["eval_interval"] = 29
    (line,) = errors(path, content)
    assert line.startswith("train.eval_interval")
    assert "29" in line


def test_each_error_has_its_own_line(path: Path) -> None:
    content = changed("train.lr", -1)
    del content["seed"]
    content["preprocess"]["channels"] = 4
    content["evaluate"]["fake"] = 2
    keys = [line.split(":")[0] for line in errors(path, content)]
    assert sorted(keys) == ["evaluate.fake", "preprocess.channels", "seed", "train.lr"]


def test_a_missing_file_suggests_the_preset_command(path: Path) -> None:
    with pytest.raises(FaceganError, match=r"not found; write one with: facegan preset digits$"):
        load_params(path)


@pytest.mark.parametrize("text", ["a: [1", "a: b: c", "\tx: 1", "%", "{"])
def test_a_file_that_is_not_yaml_gives_one_line(text: str, path: Path) -> None:
    (line,) = errors(path, text)
    assert line.startswith("invalid YAML: ")


def test_a_binary_file_gives_one_line(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00seed")
    with pytest.raises(FaceganError, match=r"params\.yaml: invalid YAML: ") as caught:
        load_params(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        *(("2024-13-45", "timestamp"), ("!!timestamp x", "timestamp"), ("!!int ''", "int")),
        *(("9" * 5000, "int"), ("!!float ''", "float"), ("0b_", "int")),
        # DVC would read and record 10, 10 and "1:30".
        *(("010", "int"), ("-010", "int"), ("1:30", "int"), ("1:30.5", "float")),
    ],
)
def test_a_value_that_is_not_plainly_of_its_kind_is_named_with_its_line(
    value: str, kind: str, path: Path
) -> None:
    (line,) = errors(path, f"a: 1\nseed: {value}\n")
    assert line.startswith("invalid YAML: line 2: ") and line.endswith(f" is not a plain {kind}")
    assert len(line) < 100


@pytest.mark.parametrize("text", ["seed: " + "[" * 5000, "{a: " * 5000])
def test_a_file_nested_too_deeply_gives_one_line(text: str, path: Path) -> None:
    (line,) = errors(path, text)
    assert line.startswith("invalid YAML: ")


def test_anchors_aliases_and_merged_mappings_are_read(path: Path) -> None:
    text = preset_text("digits").replace("lr: 0.001 ", "lr: &lr 0.001 ")
    text = text.replace("discriminator_lr: null", "discriminator_lr: *lr")
    quick = "  quick: &quick "
    text = re.sub(r"  quick: .*?\n", f"{quick}\n", text, count=1)
    text = re.sub(r"(  official: .*?\n)(    .*\n)+", "  official:\n    <<: *quick\n", text)
    path.write_text(text)
    params = load_params(path)
    assert params.train.discriminator_lr == 0.001
    assert params.reference.official == params.reference.quick


@pytest.mark.parametrize("text", ["", "# nothing\n", "[]", "42", "text"])
def test_a_file_without_keys_gives_one_line_with_the_valid_keys(text: str, path: Path) -> None:
    (line,) = errors(path, text)
    assert line.startswith("expected a mapping; valid keys: seed, preprocess, ")
    assert line.endswith("register")


def test_a_folder_instead_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FaceganError, match=f"{tmp_path}: "):
        load_params(tmp_path)


def test_params_are_immutable() -> None:
    params = make_params()
    for model, name in ((params, "seed"), (params.train, "lr"), (params.reference.quick, "label")):
        with pytest.raises((ValidationError, AttributeError)):
            setattr(model, name, 1)
    assert params == make_params()


def test_the_extractors_label_states_its_input_size() -> None:
    assert make_params().reference.quick.label == "efficientnet-lite0-32"


def test_a_preset_replaces_an_unmodified_preset(path: Path) -> None:
    write_preset("digits", path, force=False)
    write_preset("celeba64", path, force=False)
    assert path.read_text() == preset_text("celeba64")


def test_a_modified_preset_is_kept_unless_forced(path: Path) -> None:
    modified = preset_text("digits").replace("seed: 0", "seed: 1")
    path.write_text(modified)
    with pytest.raises(FaceganError, match=r"differs from every preset; --force overwrites it"):
        write_preset("mnist", path, force=False)
    assert path.read_text() == modified
    write_preset("mnist", path, force=True)
    assert path.read_text() == preset_text("mnist")


@pytest.mark.parametrize("preset", ["digits", "auto"])
def test_a_file_that_is_not_utf8_is_kept_unless_forced(preset: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"terms: caf\xe9\n")
    (tmp_path / "data").mkdir()
    for number in range(8):
        Image.effect_noise((64, 64), 10 * number + 10).save(tmp_path / f"data/{number}.png")
    (line,) = error_lines(invoke("preset", preset, cwd=tmp_path))
    assert line == "params.yaml: differs from every preset; --force overwrites it"
    assert path.read_bytes() == b"terms: caf\xe9\n"


@pytest.mark.parametrize("name", ["", "celeba", "../digits", "digits.yaml"])
def test_an_unknown_preset_is_refused_with_the_valid_names(name: str, path: Path) -> None:
    with pytest.raises(FaceganError, match="valid: auto, digits, mnist, celeba32, celeba64"):
        write_preset(name, path, force=True)
    assert not path.exists()


def test_the_committed_params_are_the_digits_preset() -> None:
    # The committed file, because a user's local changes must not fail the test.
    root = Path(__file__).parents[1]
    shown = subprocess.run(
        ["git", "show", "HEAD:params.yaml"], cwd=root, capture_output=True, text=True
    )
    if shown.returncode != 0:
        pytest.skip("not in a git clone")
    assert shown.stdout == preset_text("digits")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"eval_interval": 10}, "train.eval_interval is 10; valid: batch_size or more"),
        ({"spectral_norm": True, "architecture": "residual"}, "train.spectral_norm is true; valid"),
        (
            {"init_from": "models:/faces/Production"},
            "train.init_from is models:/faces/Production; valid: null, a folder, or models:/NAME/3",
        ),
        (
            {"spectral_norm": True, "architecture": "stylegan2"},
            "train.spectral_norm is true; valid",
        ),
        ({"augment_target": 0.8}, "train.augment_target is 0.8; valid: null with augment []"),
        ({"augment": ["cutout", "cutout"]}, "train.augment is ['cutout', 'cutout']; valid: each"),
    ],
)
def test_an_invalid_combination_is_refused_with_the_valid_values(
    changes: dict[str, Any], reason: str, path: Path
) -> None:
    content = changed("seed", 0)
    content["train"] |= changes
    (line,) = errors(path, content)
    assert line.startswith(reason)


def test_inception_has_only_one_input_size(path: Path) -> None:
    extractor = {"extractor": "inception", "input_size": 224, "dtype": "float32"}
    (line,) = errors(path, changed("reference.official", extractor))
    assert "input_size is 224; valid: 299 with extractor inception" in line
    path.write_text(json.dumps(changed("reference.official", extractor | {"input_size": 299})))
    assert load_params(path).reference.official.label == "inception"


def test_every_choice_of_code_is_one_of_params_yaml() -> None:
    from facegan.features.extractors import EXTRACTORS
    from facegan.models.architectures import ARCHITECTURES
    from facegan.params import Extractor, Train
    from facegan.train.losses import LOSSES

    for registry, field in (
        (EXTRACTORS, Extractor.model_fields["extractor"]),
        (ARCHITECTURES, Train.model_fields["architecture"]),
        (LOSSES, Train.model_fields["loss"]),
    ):
        assert set(registry) == set(get_args(field.annotation))
