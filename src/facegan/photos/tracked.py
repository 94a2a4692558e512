"""What DVC has recorded of a folder of photographs."""

import re

from facegan.core.errors import FaceganError
from facegan.photos.inputs import MANIFEST, Folder

OUTS = re.compile(r"^outs:", re.M)
NUMBER, FILE = re.compile(r"^ +nfiles: (\d+)$", re.M), re.compile(r"^[ -]+relpath: ", re.M)


def refuse_unrecorded(root: Folder) -> None:
    """Refuse a folder of which `dvc add` has recorded fewer files than it has.

    DVC records nothing that `.dvcignore` excludes, and nothing of a folder with a repository in
    it; `dvc checkout` may delete both. Without a `FOLDER.dvc` beside the folder, or a number in it,
    nothing is checked.

    Raises:
        FaceganError: if there are files that DVC has not recorded.
    """
    folder = root.path.absolute()
    record = folder.with_name(f"{folder.name}.dvc")
    if not record.is_file():
        return
    if (recorded := _recorded(record.read_text("utf-8"))) is None:
        return
    files = sum(status is None for _, status in root.files())
    files += (folder / MANIFEST).is_file()  # not an input, but recorded
    if files > recorded:
        raise FaceganError(
            f"{root.path}: has {files:,} files, of which {record.name} records {recorded:,}; run: "
            f"dvc add {root.path}. DVC never records what .dvcignore excludes, nor a folder with "
            ".dvc in it: move these elsewhere"
        )


def _recorded(text: str) -> int | None:
    """The number of files in DVC's record of a folder; None if it has none, as of DVC before 1.11.

    Read without a YAML parser, which takes a minute for a million files.
    """
    outs = text[start.start() :] if (start := OUTS.search(text)) else ""
    if numbers := NUMBER.findall(outs):
        return int(numbers[-1])
    # Of a remote with versions of its own (version_aware), where each file is listed.
    return len(FILE.findall(outs)) or None
