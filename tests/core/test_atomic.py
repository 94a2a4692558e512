import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from facegan.core import atomic
from facegan.core.atomic import replacing, unlink_shared
from facegan.core.errors import FaceganError
from samples import unprivileged


@pytest.mark.parametrize("folder", [False, True])
def test_a_full_disk_is_reported_with_the_path(folder: bool, tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="No space left on device") as caught,
        replacing(tmp_path / "out") as temporary,
    ):
        if folder:
            temporary.mkdir()
        Path("/dev/full").write_text("text")
    assert caught.value.filename == str(tmp_path / "out")
    assert names(tmp_path) == []


class BrokenError(Exception):
    pass


def write(path: Path, text: str, folder: bool) -> None:
    """Write a file, or a folder with a file in a subfolder."""
    if folder:
        (path / "below").mkdir(parents=True)
        (path / "below" / "file").write_text(text)
    else:
        path.write_text(text)


def read(path: Path) -> str:
    return (path / "below" / "file" if path.is_dir() else path).read_text()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_error_of_a_library_keeps_its_message(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=r"^the picture is truncated$"),
        replacing(tmp_path / "x"),
    ):
        raise OSError("the picture is truncated")


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("existing", [False, True])
def test_written_content_replaces_the_path(folder: bool, existing: bool, tmp_path: Path) -> None:
    path = tmp_path / "out"
    if existing:
        write(path, "old", folder)
    with replacing(path) as temporary:
        assert temporary.parent == path.parent  # or the rename could cross file systems
        assert path.exists() == existing
        write(temporary, "new", folder)
    assert read(path) == "new"
    assert names(tmp_path) == ["out"]


def test_a_replaced_folder_keeps_none_of_its_old_files(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write(path, "old", folder=True)
    (path / "extra").write_text("old")
    with replacing(path) as temporary:
        write(temporary, "new", folder=True)
    assert names(path) == ["below"]


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("error", [BrokenError, KeyboardInterrupt, SystemExit])
def test_a_block_that_raises_keeps_the_old_content(
    folder: bool, error: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "out"
    write(path, "old", folder)
    with pytest.raises(error), replacing(path) as temporary:
        write(temporary, "new", folder)
        raise error
    assert read(path) == "old"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("folder", [False, True])
def test_a_block_that_raises_creates_nothing(folder: bool, tmp_path: Path) -> None:
    with pytest.raises(BrokenError), replacing(tmp_path / "out") as temporary:
        write(temporary, "new", folder)
        raise BrokenError
    assert names(tmp_path) == []


@pytest.mark.parametrize("folder", [False, True])
def test_a_block_that_writes_nothing_keeps_the_old_content(folder: bool, tmp_path: Path) -> None:
    path = tmp_path / "out"
    write(path, "old", folder)
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert read(path) == "old"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("folder", [False, True])
def test_leftovers_of_a_killed_writer_are_discarded(folder: bool, tmp_path: Path) -> None:
    path = tmp_path / "out"
    with replacing(path) as temporary:
        name = temporary.name
        write(temporary, "first", folder)
    write(tmp_path / name, "half", folder=True)
    with replacing(path) as temporary:
        assert not temporary.exists()
        write(temporary, "second", folder)
    assert read(path) == "second"
    assert names(tmp_path) == ["out"]


def test_missing_parents_are_created(tmp_path: Path) -> None:
    with replacing(tmp_path / "a" / "b" / "out") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a" / "b" / "out").read_text() == "new"


def test_a_parent_that_cannot_be_created_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    expected = rf"^{tmp_path}/file: cannot be created \(File exists\)$"
    with pytest.raises(FaceganError, match=expected), replacing(tmp_path / "file" / "out"):
        pass


@pytest.mark.parametrize("folder", [False, True])
def test_a_file_never_replaces_a_folder_nor_a_folder_a_file(folder: bool, tmp_path: Path) -> None:
    path = tmp_path / "photographs"
    write(path, "dear", folder)
    kind = "folder" if folder else "file"
    refused = pytest.raises(FaceganError, match=f"^{path}: is a {kind}; move it away first$")
    with refused, replacing(path) as temporary:
        write(temporary, "new", not folder)
    assert read(path) == "dear"
    assert names(tmp_path) == ["photographs"]


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("target", ["same kind", "missing"])
def test_a_symlink_is_replaced_and_its_target_unchanged(
    folder: bool, target: str, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    if target == "same kind":
        write(cache, "old", folder)
    (tmp_path / "out").symlink_to(cache)
    with replacing(tmp_path / "out") as temporary:
        write(temporary, "new", folder)
    assert not (tmp_path / "out").is_symlink() and read(tmp_path / "out") == "new"
    assert not cache.exists() if target == "missing" else read(cache) == "old"
    assert names(tmp_path) == ["cache"] * (target != "missing") + ["out"]


@pytest.mark.parametrize("folder", [False, True])
def test_a_symlink_is_replaced_where_paths_cannot_be_swapped(
    folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "_exchange", lambda *_: False)
    test_a_symlink_is_replaced_and_its_target_unchanged(folder, "same kind", tmp_path)


def test_a_block_that_raises_keeps_a_symlink(tmp_path: Path) -> None:
    write(tmp_path / "cache", "old", folder=True)
    (tmp_path / "out").symlink_to(tmp_path / "cache")
    with pytest.raises(BrokenError), replacing(tmp_path / "out") as temporary:
        write(temporary, "new", folder=True)
        raise BrokenError
    assert (tmp_path / "out").is_symlink() and names(tmp_path) == ["cache", "out"]


def test_a_protected_hard_link_is_replaced_and_its_other_name_unchanged(tmp_path: Path) -> None:
    write(tmp_path / "cache", "old", folder=False)
    (tmp_path / "cache").chmod(0o444)
    (tmp_path / "out").hardlink_to(tmp_path / "cache")
    with replacing(tmp_path / "out") as temporary:
        write(temporary, "new", folder=False)
    assert read(tmp_path / "out") == "new" and read(tmp_path / "cache") == "old"


@pytest.mark.parametrize("link", ["symbolic", "hard", "read-only"])
def test_a_linked_file_is_copied_before_it_is_written_in_place(link: str, tmp_path: Path) -> None:
    cache, path = tmp_path / "cache", tmp_path / "out"
    write(cache, "old", folder=False)
    cache.chmod(0o444)
    if link == "symbolic":
        path.symlink_to(cache)
    elif link == "hard":
        path.hardlink_to(cache)
    else:
        shutil.copy(cache, path)
    tmp_path.chmod(0o777)
    with unprivileged(tmp_path):
        unlink_shared(path)
        with path.open("a") as file:
            file.write(" and new")
    assert read(path) == "old and new" and read(cache) == "old"


def test_a_file_of_its_own_is_not_copied(tmp_path: Path) -> None:
    write(tmp_path / "out", "old", folder=False)
    before = (tmp_path / "out").stat().st_ino
    unlink_shared(tmp_path / "out")
    unlink_shared(tmp_path / "missing")
    assert (tmp_path / "out").stat().st_ino == before and names(tmp_path) == ["out"]


def test_a_folder_is_swapped_in_one_step_where_the_file_system_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "out", "old", folder=True)
    monkeypatch.delattr(Path, "replace")
    with replacing(tmp_path / "out") as temporary:
        write(temporary, "new", folder=True)
    assert read(tmp_path / "out") == "new" and names(tmp_path) == ["out"]


@pytest.mark.parametrize(
    ("folder", "system", "expected"),
    [
        (False, {"syncfs"}, [".out.tmp", "."]),
        (True, {"syncfs"}, [".out.tmp", "."]),
        (True, set(), ["everything", "."]),  # as on macOS
    ],
)
def test_content_is_flushed_before_it_has_its_name(
    folder: bool,
    system: set[str],
    expected: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise, a power cut could leave empty files. Then the name is flushed."""
    flushed = list[tuple[str, str]]()
    write(tmp_path / "out", "old", folder)

    def flush(descriptor: int | None = None) -> int:
        if descriptor is None:
            name = "everything"
        else:
            name = os.path.relpath(Path(f"/proc/self/fd/{descriptor}").readlink(), tmp_path)
        flushed.append((name, read(tmp_path / "out")))
        return 0

    library = SimpleNamespace(**dict.fromkeys(system, flush))
    monkeypatch.setattr("ctypes.CDLL", lambda name: library)
    monkeypatch.setattr("os.fsync", flush)
    monkeypatch.setattr("os.sync", flush)
    with replacing(tmp_path / "out") as temporary:
        write(temporary, "new", folder)
    assert flushed == list(zip(expected, ("old", "new"), strict=True))


# Replaces the folder `out`, and kills itself before the step `count` of what comes after the block.
KILLED = """
import os, signal, sys
from pathlib import Path
from facegan.core import atomic
path, swaps, count = Path(sys.argv[1]), sys.argv[2] == "swaps", int(sys.argv[3])
exchange = atomic._exchange if swaps else lambda *paths: False
def killing(function):
    def call(*arguments, **options):
        global count
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call
with atomic.replacing(path) as temporary:
    temporary.mkdir()
    (temporary / "below").mkdir()
    (temporary / "below" / "file").write_text("new")
    atomic._exchange = killing(exchange)
    os.replace, os.unlink, os.rmdir = map(killing, (os.replace, os.unlink, os.rmdir))
"""


@pytest.mark.parametrize("how", ["swaps", "renames"])
def test_a_writer_killed_at_any_step_loses_neither_old_nor_new_content(
    how: str, tmp_path: Path
) -> None:
    """In one step where the file system can, else by two renames, between which `out` is absent."""
    seen, path = set(), tmp_path / "out"
    for count in range(1, 20):
        write(path, "old", folder=True)
        command = [sys.executable, "-c", KILLED, str(path), how, str(count)]
        code = subprocess.run(command).returncode
        seen.add(path.exists())
        with pytest.raises(BrokenError), replacing(path):
            raise BrokenError
        assert read(path) in ("old", "new") and names(tmp_path) == ["out"]
        if code == 0:
            break
        assert code == -signal.SIGKILL
        shutil.rmtree(path)
    assert count > 3 and code == 0 and read(path) == "new"
    assert seen == ({True} if how == "swaps" else {True, False})


# Writes half of the folder `out`, and waits.
SLOW = """
import sys
from pathlib import Path
from facegan.core.atomic import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.mkdir()
    print("writing", flush=True)
    sys.stdin.readline()
    (temporary / "below").mkdir()
    (temporary / "below" / "file").write_text("first")
"""


@pytest.fixture
def slow_writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", SLOW, str(tmp_path / "out")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
        yield writer
        writer.kill()


def test_a_second_process_does_not_touch_what_the_first_is_writing(
    slow_writer: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "PATIENCE", 0.2)
    busy = pytest.raises(FaceganError, match="out: another process is writing it")
    with busy, replacing(tmp_path / "out"):
        raise AssertionError("both are writing")
    slow_writer.communicate("go on\n")
    assert slow_writer.returncode == 0
    assert read(tmp_path / "out") == "first" and names(tmp_path) == ["out"]


def test_a_second_process_waits_for_a_short_while(
    slow_writer: subprocess.Popen[str], tmp_path: Path
) -> None:
    options = {"file": slow_writer.stdin, "flush": True}
    threading.Timer(0.3, print, ("go on",), options).start()
    with replacing(tmp_path / "out") as temporary:
        assert read(tmp_path / "out") == "first"
        write(temporary, "second", folder=True)
    assert read(tmp_path / "out") == "second" and names(tmp_path) == ["out"]


def test_processes_of_other_users_can_lock_where_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with replacing(tmp_path / "out") as temporary:
            mode = (tmp_path / ".out.lock").stat().st_mode
            temporary.write_text("new")
    finally:
        os.umask(before)
    assert stat.S_IMODE(mode) == 0o666


def test_a_folder_in_which_nothing_can_be_locked_is_reported_with_the_path(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with (
        unprivileged(tmp_path),
        pytest.raises(PermissionError) as caught,
        replacing(tmp_path / "out"),
    ):
        pass
    assert caught.value.filename == str(tmp_path / "out")


def test_a_lock_that_somebody_removed_is_no_error(tmp_path: Path) -> None:
    with replacing(tmp_path / "out") as temporary:
        (tmp_path / ".out.lock").unlink()
        temporary.write_text("new")
    assert names(tmp_path) == ["out"]


def test_a_killed_process_blocks_no_other(
    slow_writer: subprocess.Popen[str], tmp_path: Path
) -> None:
    slow_writer.kill()
    slow_writer.wait()
    with replacing(tmp_path / "out") as temporary:
        write(temporary, "second", folder=True)
    assert read(tmp_path / "out") == "second" and names(tmp_path) == ["out"]


def test_an_error_between_the_renames_restores_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out"
    write(path, "old", folder=True)
    rename = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == ".out.tmp":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(atomic, "_exchange", lambda *_: False)
    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        write(temporary, "new", folder=True)
    assert read(path) == "old" and names(tmp_path) == ["out"]
