"""The folder of an exported version: its files, and a record of everything else."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.register import files
from facegan.register.validation import first_error

MODEL, RECORD = "model", "version.json"  # in the folder


class Exported(BaseModel):
    """What `version.json` has.

    Attributes:
        tags: of the version; `run_tags`, `params` and `metrics`: of its run.
        run: empty if the version has none.
        sha256: of each file in `model`.
    """

    model_config = ConfigDict(strict=True, ser_json_inf_nan="constants")

    name: str
    version: int
    tags: dict[str, str]
    description: str
    run: str
    params: dict[str, str]
    metrics: dict[str, float]
    run_tags: dict[str, str]
    sha256: dict[str, str] = {}

    @property
    def origin(self) -> str:
        return f"{self.name} version {self.version}"

    def write(self, folder: Path) -> None:
        (folder / RECORD).write_text(self.model_dump_json(indent=2) + "\n", "utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """
        Raises:
            FaceganError: if the folder is not an exported version, or its files are not those
                that were exported.
        """
        try:
            record = cls.model_validate_json((folder / RECORD).read_text("utf-8"))
        except ValidationError as error:
            text = f"{folder}: not a folder of models export ({RECORD}: {first_error(error)})"
            raise FaceganError(text) from None
        except (OSError, ValueError) as error:
            raise FaceganError(f"{folder}: not a folder of models export ({error})") from None
        _require_files(folder / MODEL, record.sha256)
        require_networks(folder / MODEL, record.tags, str(folder))
        return record


def _require_files(model: Path, sha256: dict[str, str]) -> None:
    """Neither fewer nor more files, which would be uploaded unchecked, and no links."""
    found = {path.relative_to(model).as_posix(): path for path in contents(model)}
    for name, path in found.items():
        if name not in sha256:
            raise FaceganError(f"{path}: not in {RECORD}; delete it, or export again")
    for name, expected in sha256.items():
        path = found.get(name, model / name)
        if name not in found:
            raise FaceganError(f"{path}: missing; copy the folder again")
        if path.is_symlink():
            raise FaceganError(f"{path}: a link; copy the folder with its files")
        if (actual := file_sha256(path)) != expected:
            raise FaceganError(f"{path}: sha256 is {actual}; {RECORD} has {expected}")


def contents(model: Path) -> list[Path]:
    """All files and links, in order."""
    return [path for path in sorted(model.rglob("*")) if path.is_symlink() or not path.is_dir()]


def require_networks(model: Path, tags: dict[str, str], origin: str) -> None:
    """
    Raises:
        FaceganError: if the networks are not those that the version's tags name.
    """
    for name, tag in files.NETWORKS.items():
        if (actual := file_sha256(model / files.EXTRA / name)) != tags.get(tag):
            raise FaceganError(f"{origin}: {name} has sha256 {actual}, not that of tag {tag}")
