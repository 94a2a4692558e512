"""Backups that fail; infra/containers.py has those of a real stack."""

import os
import subprocess
from pathlib import Path

import pytest

INFRA = Path(__file__).parents[2] / "infra"
# In place of Compose: notes its commands, answers with their names, fails where FAIL says.
COMPOSE = """\
#!/usr/bin/env bash
echo "$*" >> "$LOG"
case "$*" in *"$FAIL"*) exit 1 ;; esac
echo "$*"
"""


class Scripts:
    """infra/backup and infra/restore, with a stack of which nothing is there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log, self.compose = folder, folder / "log", folder / "compose"
        self.compose.write_text(COMPOSE)
        self.compose.chmod(0o700)

    def run(self, script: str, name: str, fail: str = "no command") -> tuple[int, str, str]:
        """Returns: the exit status, what Compose had to do, and stderr."""
        self.log.write_text("")
        variables = {"COMPOSE": str(self.compose), "LOG": str(self.log), "FAIL": fail}
        done = subprocess.run(
            [INFRA / script, self.folder / name],
            env=os.environ | variables, capture_output=True, text=True,
        )  # fmt: skip
        return done.returncode, self.log.read_text(), done.stderr


@pytest.fixture(name="scripts")
def make_scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


def test_a_backup_that_fails_leaves_no_folder(scripts: Scripts) -> None:
    for command in ("pg_dump --username facegan --format custom prefect", "tar -C /data -cf"):
        assert scripts.run("backup", "backup", fail=command)[0] != 0
        assert not (scripts.folder / "backup").exists()
    assert scripts.run("backup", "backup")[0] == 0
    code, commands, text = scripts.run("backup", "backup")
    assert (code, commands) == (1, "") and text.endswith("backup exists; name another folder\n")


def test_a_backup_is_restored(scripts: Scripts) -> None:
    assert scripts.run("backup", "backup")[0] == 0
    code, commands, text = scripts.run("restore", "backup")
    assert (code, text) == (0, "")
    assert commands.count("dropdb") == 2
    assert commands.endswith("start mlflow prefect\n")


@pytest.mark.parametrize("file", ["mlflow.dump", "prefect.dump", "s3.tar", "SHA256SUMS"])
@pytest.mark.parametrize("damage", ["missing", "cut off", "not listed"])
def test_a_damaged_backup_changes_nothing(file: str, damage: str, scripts: Scripts) -> None:
    scripts.run("backup", "backup")
    folder = scripts.folder / "backup"
    sums = folder / "SHA256SUMS"
    if damage == "missing":
        (folder / file).unlink()
    elif damage == "cut off":
        (folder / file).write_text("")
    else:
        listed = [line for line in sums.read_text().splitlines(True) if file not in line]
        sums.write_text("".join(listed) if file != sums.name else "")
    code, commands, text = scripts.run("restore", "backup")
    assert (code, commands) == (1, "")
    assert text.endswith("; nothing was changed\n")


def test_a_dump_that_postgresql_cannot_read_changes_nothing(scripts: Scripts) -> None:
    scripts.run("backup", "backup")
    code, commands, text = scripts.run("restore", "backup", fail="pg_restore")
    assert code == 1 and "dropdb" not in commands and "stop" not in commands
    assert text.endswith("PostgreSQL cannot read mlflow.dump; nothing was changed\n")


def test_a_restore_that_fails_says_what_it_left(scripts: Scripts) -> None:
    scripts.run("backup", "backup")
    code, _, text = scripts.run("restore", "backup", fail="createdb")
    assert code == 1
    assert text == "infra/restore: failed; MLflow and Prefect may be stopped: run it again\n"
