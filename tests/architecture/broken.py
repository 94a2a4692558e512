"""A project in little that keeps every rule, and for each rule the ways to break it."""

from pathlib import Path

from architecture import Rule, imports, layout, params, stages

PARAMS = """\
seed: 1
register: tiny
train:
  steps: 2
  loss: {kind: hinge}
  augment: null
"""

# With what the rules let pass: late imports, imports for types alone, paths in a docstring and in
# a help text, a docstring of any length.
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
      - src/facegan/__init__.py
      - src/facegan/dataset.py
      - src/facegan/losses.py
      - src/facegan/models/dcgan.py
      - src/facegan/train.py
    outs: [artifacts/train]
    metrics:
      - artifacts/train/metrics.json: {cache: false}
  register:
    cmd: facegan register artifacts/train
    params: []
    deps:
      - artifacts/train
      - src/facegan/__init__.py
      - src/facegan/registry.py
      - src/facegan/tracking.py
""",
    "pipelines/training.py": "import dvc.api\nimport prefect\nfrom facegan.cli import main\n",
    "infra/bucket.py": "import boto3\n",
    "src/facegan/__init__.py": "__version__ = '1'\n",
    "src/facegan/__main__.py": "from facegan.cli import main\n",
    "src/facegan/app.py": "",
    "src/facegan/augment.py": "",
    "src/facegan/cli.py": """\
import typer
from facegan import params
def main(folder=typer.Option(help="artifacts/train")):
    import torch
    from facegan import registry, train
""",
    "src/facegan/dataset.py": "import torch\n",
    "src/facegan/features.py": "from facegan import augment\n",
    "src/facegan/losses.py": "",
    "src/facegan/models/__init__.py": '"""Networks."""\n',
    "src/facegan/models/dcgan.py": "",
    "src/facegan/models/resnet.py": "from .dcgan import Generator\n",
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
    "src/facegan/preprocess.py": "if TYPE_CHECKING:\n    import torch\n",
    "src/facegan/registry.py": "import mlflow\nfrom facegan.tracking import log\n",
    "src/facegan/sampling.py": "from facegan import features\n",
    "src/facegan/published.py": "def celeba():\n    import gdown\n",
    "src/facegan/s3.py": "def client():\n    import boto3\n",
    "src/facegan/sources.py": "from facegan import published, s3\n",
    "src/facegan/tracking.py": "from mlflow import MlflowClient\n",
    "src/facegan/train.py": f'''\
"""artifacts/train holds the result."""
from typing import TYPE_CHECKING
from facegan.models import dcgan
from facegan.params import Train
from . import dataset
if TYPE_CHECKING:
    from facegan.augment import Policy
def train():
    """{"Prose." + chr(10) * 50}"""
    from facegan import losses
''',
}


def write(root: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, "utf-8")
    return root


# A text for the end of the file, or (text, another in its place).
Change = str | tuple[str, str]

AUGMENT, CLI, LOSSES = "src/facegan/augment.py", "src/facegan/cli.py", "src/facegan/losses.py"
APP, MODELS, SECTIONS = "src/facegan/app.py", "src/facegan/models", "src/facegan/params.py"
FLOW, PRESET = "pipelines/training.py", "src/facegan/presets/tiny.yaml"
DEP = "      - src/facegan/"
# Some rules build the models of params.py: torch must not load for that.
TORCH = "if 0: import torch"

# Rule -> file -> change -> a part of the complaint.
BREAKS: dict[Rule, dict[str, dict[Change, str]]] = {
    imports.imports_go_one_way: {
        AUGMENT: {
            "from facegan.app import page": f"{AUGMENT}:1: imports facegan.app",
            "def f():\n    from facegan import sources": f"{AUGMENT}:2: imports facegan.sources",
            "if TYPE_CHECKING:\n    import facegan.app": f"{AUGMENT}:2: imports facegan.app",
            "import_module('facegan.app')": f"{AUGMENT}:1: imports facegan.app",
            "from .preprocess import *": f"{AUGMENT}:1: imports facegan.preprocess",
        },
        f"{MODELS}/resnet.py": {"from ..augment import Policy": ":2: imports facegan.augment"},
        APP: {"from pipelines import training": f"{APP}:1: imports pipelines.training"},
        "src/facegan/gadget.py": {"x = 1": "src/facegan/gadget.py: in no layer; add it"},
        "src/gadget/losses.py": {"x = 1": "src/gadget/losses.py: in no layer; add it"},
        "src/facegan/utils.py": {"x = 1": "src/facegan/utils.py: `utils` doesn't say"},
        "src/facegan/models/utils.py": {"x = 1": "src/facegan/models/utils.py: `utils`"},
    },
    imports.imports_have_no_cycles: {
        AUGMENT: {
            "import facegan.features": "facegan.augment -> facegan.features",
            "def f():\n    from . import sampling": "facegan.augment -> facegan.sampling",
        },
        "pipelines/sweep.py": {"import pipelines.sweep": "pipelines.sweep -> pipelines.sweep"},
    },
    imports.imports_are_spelled_out: {
        CLI: {
            "importlib.import_module(f'facegan.{step}')": f"{CLI}:6: imports by a computed name",
            "import_module('.train', 'facegan')": f"{CLI}:6: imports by a computed name",
        }
    },
    imports.only_named_modules_import: {
        AUGMENT: {
            **{f"import {name}.x": f"{AUGMENT}:1: imports {name}" for name in imports.IMPORTERS},
            "def f():\n    from dvc import repo": f"{AUGMENT}:2: imports dvc; only pipelines may",
        },
        FLOW: {"if TYPE_CHECKING: import mlflow": f"{FLOW}:4: imports mlflow"},
        f"{MODELS}/tracking.py": {"import mlflow": f"{MODELS}/tracking.py:1: imports mlflow"},
        "infra/bucket.py": {"import dvc.repo": "infra/bucket.py:2: imports dvc"},
    },
    imports.torch_loads_when_needed: {
        **{
            path: {TORCH: f"{path}: loads torch at import"}
            for module in imports.TORCH_FREE
            for end in [".py" if "." in module else "/__init__.py"]
            for path in [f"src/{module.replace('.', '/')}{end}"]
        },
        CLI: {
            TORCH: f"{CLI}: loads torch at import",
            "class A:\n    from torch import nn": f"{CLI}: loads torch.nn at import",
            "if not TYPE_CHECKING:\n    import torch.fx": f"{CLI}: loads torch.fx at import",
            "if TYPE_CHECKING: pass\nelse: import torch.jit": f"{CLI}: loads torch.jit at import",
            "from safetensors import torch": f"{CLI}: loads safetensors.torch at import",
            "import facegan.dataset": f"{CLI}: loads torch at import (src/facegan/dataset.py:1)",
        },
        "src/facegan/published.py": {
            "import torchvision.io": "src/facegan/sources.py: loads torchvision.io at import",
        },
    },
    stages.stages_list_their_code: {
        "dvc.yaml": {
            (f"{DEP}models/dcgan.py\n", ""): f"train: {MODELS}/dcgan.py is missing in deps",
            (f"{DEP}losses.py\n", ""): f"train: {LOSSES} is missing in deps",
            (f"{DEP}tracking.py\n", ""): "register: src/facegan/tracking.py is missing in deps",
            (DEP, f"{DEP}app.py\n{DEP}"): f"train: {APP} isn't imported",
            (DEP, f"{DEP}params.py\n{DEP}"): f"register: {SECTIONS} isn't imported",
            (DEP, f"{DEP}models\n{DEP}"): f"train: {MODELS} isn't imported",
            "  gadget: {cmd: facegan gadget}": "gadget: there is no module facegan.gadget",
        },
        LOSSES: {"from facegan import sampling": f"train: {AUGMENT} is missing in deps"},
        f"{MODELS}/__init__.py": {"x = 1": f"train: {MODELS}/__init__.py is missing in deps"},
    },
    stages.stages_pass_their_paths: {
        "dvc.yaml": {
            ("facegan train", "facegan fit"): "train: cmd has to be one line, `facegan train",
            ("facegan train", "python -m facegan train"): "train: cmd has to be one line",
            ("facegan train data artifacts/train", "[facegan train data]"): "train: cmd has to be",
            ("train data", "train"): "train: data is under no argument",
            ("[artifacts/train]", "[artifacts/film]"): "train: artifacts/film is under no argument",
            ("train/metrics", "metrics"): "train: artifacts/metrics.json is under no argument",
            ("train data", "train data artifacts/x"): "train: artifacts/x is an argument of cmd",
        }
    },
    stages.stages_read_whole_sections: {
        "dvc.yaml": {
            ("[seed, train]", "[seed, fit]"): "train: params: fit is no section",
            ("[seed, train]", "[train.steps]"): "train: params: train.steps is no section",
            ("[seed, train]", "[{x.yaml: [a]}]"): "train: params: {'x.yaml': ['a']} is no section",
        }
    },
    stages.paths_stand_in_dvc_yaml: {
        LOSSES: {
            "x = 'artifacts/train'": f"{LOSSES}:1: 'artifacts/train' has to come from dvc.yaml",
            "x = f'artifacts/{name}'": f"{LOSSES}:1: 'artifacts/' has to come from dvc.yaml",
            "x = Path('artifacts') / 'x'": f"{LOSSES}:1: 'artifacts' has to come from dvc.yaml",
            "def f(x='artifacts/x'): pass": f"{LOSSES}:1: 'artifacts/x' has to come from dvc.yaml",
        }
    },
    params.params_hide_no_default: {
        SECTIONS: {
            ("seed: int", "seed: int = 1"): f"{SECTIONS}: Params.seed has a default",
            ("gamma: float", "gamma: float = Field(default_factory=float)"): "Penalised.gamma has",
            ("policy: str", "policy: str = 'flip'"): f"{SECTIONS}: Augment.policy has a default",
            ("frozen=True", "frozen=False"): f"{SECTIONS}: Train isn't frozen",
            (', extra="forbid"', ""): f"{SECTIONS}: Hinge doesn't forbid extra keys",
        }
    },
    params.params_files_fit_the_models: {
        SECTIONS: {
            ("seed: int", "seed: int\n    more: int"): "params.yaml: more is missing",
            ("seed: int", "pass"): "params.yaml: seed isn't in Params",
        },
        PRESET: {
            "more: 1": f"{PRESET}: more isn't in Params",
            ("  steps", "  stops"): f"{PRESET}: train.steps is missing",
            ("hinge}", "hinge, x: 1}"): f"{PRESET}: train.loss.x isn't in Hinge",
            ("register", "register_"): f"{PRESET}: register is missing",
            ("null", "{x: 1}"): f"{PRESET}: train.augment.policy is missing",
            (PARAMS, "seed: 1\nregister: x\ntrain: 2"): f"{PRESET}: train has to be a section",
        },
    },
    layout.sources_stay_short: {
        LOSSES: {
            "x = 1\n" * 301: f"{LOSSES}: 301 lines of at most 300",
            "def f():\n" + "    x = 1\n" * 40: f"{LOSSES}:f: 41 lines of at most 40",
        },
        FLOW: {"class A:\n  async def f():" + "\n   x = 1" * 40: f"{FLOW}:f: 41 lines of"},
    },
}
