"""What DVC has recorded of a folder of photographs."""

import re

from facegan.core.errors import FaceganError
from facegan.photos.inputs import MANIFEST, Folder


def refuse_unrecorded(root: Folder) -> None:
    """Refuse a folder of which `dvc add` has recorded fewer files than it has.

    DVC records nothing that `.dvcignore` excludes, and nothing of a folder with a repository in
    it; `dvc checkout` may delete both. Without a `FOLDER.dvc` beside the folder, nothing is
    checked.

    Raises:
        FaceganError: if there are files that DVC has not recorded.
    """
    folder = root.path.absolute()
    record = folder.with_name(f"{folder.name}.dvc")
    if not record.is_file():
        return
    recorded = sum(map(int, re.findall(r"^ +nfiles: (\d+)$", record.read_text("utf-8"), re.M)[-1:]))
    files = sum(status is None for _, status in root.files())
    files += (folder / MANIFEST).is_file()  # not an input, but recorded
    if files > recorded:
        raise FaceganError(
            f"{root.path}: has {files:,} files, of which {record.name} records {recorded:,}; run: "
            f"dvc add {root.path}. DVC never records what .dvcignore excludes, nor a folder with "
            ".dvc in it: move these elsewhere"
        )
