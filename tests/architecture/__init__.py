"""Rules for the structure of this project. Each takes a checkout's root and returns violations.

Import-linter and ruff enforce which module may import which (`pyproject.toml`); these are the rules
that no tool has. Sources are parsed, not imported, so rules are fast and work on code that does not
run. The exception is `facegan.params`, because only pydantic knows its models' fields.
"""

from collections.abc import Callable
from pathlib import Path

from architecture import layout, params, stages

Rule = Callable[[Path], list[str]]

# `layout.top_level_is_fixed` and `imports.import_stays_light` have other arguments.
RULES: tuple[Rule, ...] = (
    stages.stages_list_their_code,
    stages.stages_pass_their_paths,
    stages.stages_read_whole_sections,
    stages.paths_are_in_dvc_yaml,
    params.params_hide_no_default,
    params.params_files_fit_the_models,
    layout.sources_stay_short,
    layout.names_are_specific,
)
