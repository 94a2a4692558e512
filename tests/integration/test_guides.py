"""The commands of the guides, run as they are written, in a project that has run every stage."""

import re
from pathlib import Path

import pytest

from project import Project

pytestmark = pytest.mark.faults
DOCS = Path(__file__).parents[2] / "docs"
GUIDES = ("faces.md",)


def commands(guide: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", (DOCS / guide).read_text("utf-8"), re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line]


@pytest.mark.parametrize("guide", GUIDES)
def test_every_command_of_a_guide_works(guide: str, finished: Project) -> None:
    assert commands(guide)
    for command in commands(guide):
        finished.run("bash", "-c", command)
