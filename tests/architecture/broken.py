"""A minimal project that satisfies every rule, and changes that violate each rule."""

from pathlib import Path

from architecture import Rule, layout, params, stages

PARAMS = """\
seed: 1
register: tiny
train:
  steps: 2
  loss: {kind: hinge}
  augment: null
"""

# With what the rules allow: late imports, imports for type checking, paths in a docstring and in a
# help text, a docstring of any length.
PROJECT = {
    "params.yaml": PARAMS,
    "src/facegan/presets/tiny.yaml": PARAMS,
    "dvc.yaml": """\
stages:
  train:
    cmd: facegan train data artifacts/train
    params: [seed, train]
    deps:
      - data
      - src/facegan/data
      - src/facegan/models
      - src/facegan/train
    outs: [artifacts/train]
    metrics:
      - artifacts/train/metrics.json: {cache: false}
  register:
    cmd: facegan register artifacts/train
    params: []
    deps:
      - artifacts/train
      - src/facegan/register
      - src/facegan/tracking
""",
    "pipelines/__init__.py": "",
    "pipelines/training.py": "import dvc.api\nimport prefect\nfrom facegan.cli import main\n",
    **{
        f"src/facegan/{package}__init__.py": ""
        for package in ("", "cli/", "core/", "data/", "models/", "register/", "tracking/", "train/")
    },
    "src/facegan/cli/main.py": """\
import typer
from facegan import params
def main(folder=typer.Option(help="artifacts/train")):
    import torch
    from facegan.register import stage
""",
    "src/facegan/core/errors.py": "",
    "src/facegan/data/dataset.py": "import torch\n",
    "src/facegan/models/dcgan.py": "",
    "src/facegan/params.py": """\
from __future__ import annotations
from typing import Annotated, Literal
from pydantic import BaseModel, ConfigDict, Field
class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
class Hinge(Section):
    kind: Literal["hinge"]
class Penalised(Section):
    kind: Literal["penalised"]
    gamma: float
class Augment(Section):
    policy: str
class Train(Section):
    steps: int
    loss: Annotated[Hinge | Penalised, Field(discriminator="kind")]
    augment: Augment | None
class Params(Section):
    seed: int
    register_: str = Field(alias="register")
    train: Train
""",
    "src/facegan/register/stage.py": "import mlflow\nfrom facegan.tracking.runs import log\n",
    "src/facegan/tracking/runs.py": "from mlflow import MlflowClient\n",
    "src/facegan/train/losses.py": "",
    "src/facegan/train/stage.py": f'''\
"""artifacts/train holds the result."""
from typing import TYPE_CHECKING
from facegan.data import dataset
from facegan.params import Train
from . import losses
if TYPE_CHECKING:
    from facegan.core.errors import FaceganError
def train():
    """{"Prose." + chr(10) * 50}"""
    from facegan.models import dcgan
''',
}


def write(root: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, "utf-8")
    return root


# Text to append to the file, or (text, its replacement).
Change = str | tuple[str, str]

LOSSES, SECTIONS = "src/facegan/train/losses.py", "src/facegan/params.py"
FLOW, PRESET = "pipelines/training.py", "src/facegan/presets/tiny.yaml"
DEP = "      - src/facegan/"

# Rule -> file -> change -> part of the complaint.
BREAKS: dict[Rule, dict[str, dict[Change, str]]] = {
    stages.stages_list_their_code: {
        "dvc.yaml": {
            (f"{DEP}models\n", ""): "train: src/facegan/models is missing in deps",
            (f"{DEP}train\n", ""): "train: src/facegan/train is missing in deps",
            (f"{DEP}tracking\n", ""): "register: src/facegan/tracking is missing in deps",
            (DEP, f"{DEP}core\n{DEP}"): "train: src/facegan/core is not imported",
            (DEP, f"{DEP}params.py\n{DEP}"): f"register: {SECTIONS} is not imported",
            ("- data\n", "- data\n" + "      - data/x\n" * 7): "train: 11 deps, more than 10",
            "  gadget: {cmd: facegan gadget}": "gadget: module facegan.gadget.stage not found",
        },
        LOSSES: {"from facegan.tracking import runs": "train: src/facegan/tracking is missing"},
    },
    stages.stages_pass_their_paths: {
        "dvc.yaml": {
            ("facegan train", "facegan fit"): "train: cmd must be one line, `facegan train",
            ("facegan train", "python -m facegan train"): "train: cmd must be one line",
            ("facegan train data artifacts/train", "[facegan train data]"): "train: cmd must be",
            ("train data", "train"): "train: data is not below an argument",
            (
                "[artifacts/train]",
                "[artifacts/film]",
            ): "train: artifacts/film is not below an argument",
            ("train/metrics", "metrics"): "train: artifacts/metrics.json is not below an argument",
            ("train data", "train data artifacts/x"): "train: artifacts/x is an argument of cmd",
        }
    },
    stages.stages_read_whole_sections: {
        "dvc.yaml": {
            ("[seed, train]", "[seed, fit]"): "train: params: fit is not a section",
            ("[seed, train]", "[train.steps]"): "train: params: train.steps is not a section",
            (
                "[seed, train]",
                "[{x.yaml: [a]}]",
            ): "train: params: {'x.yaml': ['a']} is not a section",
        }
    },
    stages.paths_are_in_dvc_yaml: {
        LOSSES: {
            "x = 'artifacts/train'": f"{LOSSES}:1: 'artifacts/train' must come from dvc.yaml",
            "x = f'artifacts/{name}'": f"{LOSSES}:1: 'artifacts/' must come from dvc.yaml",
            "x = Path('artifacts') / 'x'": f"{LOSSES}:1: 'artifacts' must come from dvc.yaml",
            "def f(x='artifacts/x'): pass": f"{LOSSES}:1: 'artifacts/x' must come from dvc.yaml",
        }
    },
    params.params_hide_no_default: {
        SECTIONS: {
            ("seed: int", "seed: int = 1"): f"{SECTIONS}: Params.seed has a default",
            ("gamma: float", "gamma: float = Field(default_factory=float)"): "Penalised.gamma has",
            ("policy: str", "policy: str = 'flip'"): f"{SECTIONS}: Augment.policy has a default",
            ("frozen=True", "frozen=False"): f"{SECTIONS}: Train is not frozen",
            (', extra="forbid"', ""): f"{SECTIONS}: Hinge does not forbid extra keys",
        }
    },
    params.params_files_fit_the_models: {
        SECTIONS: {
            ("seed: int", "seed: int\n    more: int"): "params.yaml: more is missing",
            ("seed: int", "pass"): "params.yaml: seed is not in Params",
        },
        PRESET: {
            "more: 1": f"{PRESET}: more is not in Params",
            ("  steps", "  stops"): f"{PRESET}: train.steps is missing",
            ("hinge}", "hinge, x: 1}"): f"{PRESET}: train.loss.x is not in Hinge",
            ("register", "register_"): f"{PRESET}: register is missing",
            ("null", "{x: 1}"): f"{PRESET}: train.augment.policy is missing",
            (PARAMS, "seed: 1\nregister: x\ntrain: 2"): f"{PRESET}: train must be a section",
        },
    },
    layout.names_are_specific: {
        "src/facegan/train/utils.py": {
            "x = 1": "src/facegan/train/utils.py: `utils` is not specific"
        },
        "pipelines/utils.py": {"x = 1": "pipelines/utils.py: `utils` is not specific"},
    },
    layout.sources_stay_short: {
        LOSSES: {
            "x = 1\n" * 301: f"{LOSSES}: 301 lines, more than 300",
            "def f():\n" + "    x = 1\n" * 40: f"{LOSSES}:f: 41 lines, more than 40",
        },
        FLOW: {"class A:\n  async def f():" + "\n   x = 1" * 40: f"{FLOW}:f: 41 lines, more"},
    },
}
