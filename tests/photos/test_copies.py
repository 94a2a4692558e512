from pathlib import Path

import pytest

from facegan.photos import discovery
from facegan.photos.copies import is_machine_made
from facegan.photos.inputs import Folder
from samples import fill, zipped


@pytest.mark.parametrize(
    "path",
    [
        "@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg",
        "2024/@eadir/a.jpg",
        "#recycle/a.jpg",
        "@Recycle/a.jpg",
        ".@__thumb/a.jpg",
        "DCIM/.thumbnails/1.jpg",
        "DCIM/.trashed-1700000000-IMG_1.jpg",
        "DCIM/.pending-1700000000-IMG_1.jpg",
        "a.zip/__MACOSX/x/a.jpg",
        ".Trash-1000/files/a.jpg",
        ".Trashes/501/a.jpg",
        "$RECYCLE.BIN/S-1-5/a.jpg",
        "Lightroom/Previews.lrdata/a.jpg",
        "MISC/IMG_0001.THM",
        ".picasaoriginals/a.jpg",
        "SYNOFILE_THUMB_M.jpg",
        ".cache/thumbnails/large/1a.png",
        "home/.local/share/Trash/files/a.jpg",
        "Photos Library.photoslibrary/resources/derivatives/1/a.jpeg",
        "iPhoto Library.photolibrary/Thumbnails/2010/a.jpg",
        "Aperture.aplibrary/Previews/a.jpg",
        "CaptureOne/Cache/Proxies/a.jpg",
        "appdata_oc1x/preview/1/2/256-256.jpg",
        "me/files_trashbin/files/a.jpg",
        ".snapshots/1/snapshot/a.jpg",
        "~snapshot/daily/a.jpg",
        ".zfs/snapshot/daily/a.jpg",
        "Network Trash Folder/a.jpg",
        ".recycle/me/a.jpg",
        ".wdmc/2024/a.jpg",
        ".photoprism/cache/a.jpg",
        ".cache/darktable/mipmaps-1.d/0/1.jpg",
        ".shotwell/thumbs/thumbs360/a.jpg",
        r"x.zip/photos\@eaDir\a.jpg\SYNOPHOTO_THUMB_M.jpg",
        r"x.zip/__MACOSX\a.jpg",
    ],
)
def test_copies_by_programs_are_recognised(path: str) -> None:
    assert is_machine_made(path)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "a.jpg",
            "thumbnails128x128/00000.png",
            "trash/a.jpg",
            "eaDir/a.jpg",
            "@eaDir",
            "x.thm.jpg",
        ),
        *("Photos Library.photoslibrary/originals/1/a.jpeg", "resources/a.jpg", "previews/a.jpg"),
        *("iPhoto Library.photolibrary/Masters/a.jpg", "cache/a.jpg", ".cache/faces/a.jpg"),
        *("CaptureOne/a.jpg", "x.cocatalog/Originals/a.jpg", "snapshots/a.jpg"),
    ],
)
def test_other_names_are_those_of_photographs(path: str) -> None:
    assert not is_machine_made(path)


def test_copies_get_a_status_and_are_not_read(tmp_path: Path) -> None:
    archive = zipped({"a.jpg": b"a", "__MACOSX/a.jpg": b"b"})
    data = fill(tmp_path / "data", {"@eaDir/a.jpg/x.jpg": b"x", "a.zip": archive, "b.jpg": b"b"})
    found = {item.path: item.status for item in discovery.find(Folder(data))}
    assert found == {
        "@eaDir/a.jpg/x.jpg": "machine-made",
        "a.zip/a.jpg": None,
        "a.zip/__MACOSX/a.jpg": "machine-made",
        "b.jpg": None,
    }
