"""params.yaml has every value: the models in facegan.params have its keys and no defaults."""

import inspect
import sys
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import get_args

import yaml
from pydantic import BaseModel

Model = type[BaseModel]

# DVC 3.67 omits keys of these names, at any depth, from the hash of a run (dvc/stage/cache.py):
# changing such a parameter would restore an old output.
IGNORED = ("size", "nfiles")


@cache
def _params_model(root: Path) -> Model:
    # By path, because another `facegan` is installed.
    spec = spec_from_file_location("facegan_params_by_path", root / "src/facegan/params.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # where pydantic resolves postponed annotations
    spec.loader.exec_module(module)
    model: Model = module.Params
    return model


def _models_in(annotation: object) -> list[Model]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _with_nested(model: Model) -> list[Model]:
    fields = model.model_fields.values()
    nested = [inner for field in fields for inner in _models_in(field.annotation)]
    return [model, *(deeper for inner in nested for deeper in _with_nested(inner))]


def params_hide_no_default(root: Path) -> list[str]:
    found = []
    for model in dict.fromkeys(_with_nested(_params_model(root))):
        name = f"src/facegan/params.py: {model.__name__}"
        if not model.model_config.get("frozen"):
            found.append(f"{name} is not frozen")
        if model.model_config.get("extra") != "forbid":
            found.append(f"{name} does not forbid extra keys")
        fields = model.model_fields.items()
        found += [f"{name}.{key} has a default" for key, f in fields if not f.is_required()]
        found += [
            f"{name}.{key}: DVC's run cache ignores it" for key, _ in fields if key in IGNORED
        ]
    return found


def params_files_fit_the_models(root: Path) -> list[str]:
    used, found = root / "params.yaml", []
    presets = sorted((root / "src/facegan/presets").glob("*.yaml"))
    for path in (used, *presets):
        values = yaml.safe_load(path.read_text("utf-8"))
        found += _mismatches(_params_model(root), values, f"{path.relative_to(root).as_posix()}: ")
    return found


def _mismatches(model: Model, values: object, prefix: str) -> list[str]:
    if not isinstance(values, dict):
        return [f"{prefix.rstrip('.: ')} must be a section with the keys of {model.__name__}"]
    # The file has the alias if pydantic reserves the name (`register`).
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    found = [f"{prefix}{key} is missing" for key in fields if key not in values]
    found += [f"{prefix}{key} is not in {model.__name__}" for key in values if key not in fields]
    for key in [key for key in fields if key in values]:
        annotation, value = fields[key].annotation, values[key]
        nested = _models_in(annotation)
        # A model in a union (`Model | None`) needs no section.
        if nested and (isinstance(value, dict) or annotation in nested):
            by_model = [_mismatches(inner, value, f"{prefix}{key}.") for inner in nested]
            by_model.sort(key=len)
            found += by_model[0]  # the closest model of a union
    return found
