"""The rules of this project's structure: each takes a checkout's root, returns what breaks it.

Which module may import which is import-linter's and ruff's to hold (`pyproject.toml`). The rules
here are those that no tool has. Sources are parsed and never imported, so a rule is quick and works
on code that doesn't run. The one exception is `facegan.params`: only pydantic can say what its
models' fields are.
"""

from collections.abc import Callable
from pathlib import Path

from architecture import layout, params, stages

Rule = Callable[[Path], list[str]]

# `layout.top_level_is_fixed` and `imports.import_stays_light` ask other programs: not here.
RULES: tuple[Rule, ...] = (
    stages.stages_list_their_code,
    stages.stages_pass_their_paths,
    stages.stages_read_whole_sections,
    stages.paths_stand_in_dvc_yaml,
    params.params_hide_no_default,
    params.params_files_fit_the_models,
    layout.sources_stay_short,
    layout.names_say_what_they_hold,
)
