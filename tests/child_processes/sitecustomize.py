"""Gives the processes that tests start the small feature extractor and quick trainings, too.

Python imports this module at its start, if its folder is in PYTHONPATH.
"""

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


def use_small_extractor() -> None:
    import small_extractor

    small_extractor.install()


def use_quick_training() -> None:
    import quick_training

    quick_training.install()


# By the module that it changes.
CHANGES = {
    "facegan.features.extractors": use_small_extractor,
    "facegan.train.gan_state": use_quick_training,
}


class Finder(MetaPathFinder):
    """Changes a module right after it is imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in CHANGES:
            return None
        spec = PathFinder.find_spec(name, path)
        assert spec is not None and spec.loader is not None
        execute = spec.loader.exec_module

        def execute_and_install(module: ModuleType) -> None:
            execute(module)
            CHANGES[name]()

        spec.loader.exec_module = execute_and_install  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Finder())
# `make mutants` notes which tests run what in its own process; here it would miss its settings.
if os.environ.get("MUTANT_UNDER_TEST") == "stats":
    del os.environ["MUTANT_UNDER_TEST"]
