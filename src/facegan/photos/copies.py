"""Copies of photographs that programs make: thumbnails, previews, trash. They are not inputs."""

import re

# Folders, in lower case, by who makes them.
FOLDERS = frozenset(
    {
        *("@eadir", "#recycle", "#snapshot", ".wdmc", ".recycle"),  # Synology, WD, Samba
        *("@recycle", ".@__thumb", "@recently-snapshot", ".@upload_cache"),  # QNAP
        *(".thumbnails", ".thumbcache", ".trashbin", ".globaltrash", ".imagecache"),  # Android
        *("__macosx", ".trashes", ".trash", ".appledouble", ".temporaryitems"),  # macOS
        *(".documentrevisions-v100", ".mobilebackups", "network trash folder", "temporary items"),
        *("$recycle.bin", "recycler", "recycled", "system volume information"),  # Windows
        *(".thumb", ".thumbs", ".xvpics", ".tmb", ".dtrash", ".sh_thumbnails"),  # Linux
        *(".stversions", ".sync", ".dropbox.cache", ".tmp.drivedownload"),  # synchronisation
        *(".snapshot", ".snapshots", "~snapshot", ".zfs", "files_trashbin"),  # file servers
        *(".photoprism", ".picasaoriginals", ".ipynb_checkpoints", "lost+found"),
    }
)
# Linux's trash on a mounted disk, with the user's number; Lightroom's previews.
FOLDER_START, FOLDER_END = ".trash-", ".lrdata"
# Folders in a certain folder: caches and trash of Linux and Nextcloud, and what Apple's programs
# and Capture One keep beside the originals.
WITHIN = re.compile(
    r"(^|/)(\.cache/(thumbnails|darktable)[^/]*|\.local/share/trash|\.shotwell/thumbs"
    r"|appdata_[^/]+/preview"
    r"|[^/]+\.(photoslibrary|photolibrary|aplibrary)/(resources|previews|thumbnails)"
    r"|(captureone|[^/]+\.cocatalog)/cache)/"
)
# Android's trash and unfinished photographs; Synology's thumbnails; cameras' thumbnails of videos.
FILE_STARTS = (".trashed-", ".pending-", "synophoto_", "synofile_", "synovideo_")
FILE_END = ".thm"


def is_machine_made(path: str) -> bool:
    """Whether a path, relative to the data, is that of a copy made by a program.

    >>> is_machine_made("2024/@eaDir/IMG_1.JPG/SYNOPHOTO_THUMB_XL.jpg")
    True
    """
    path = path.lower().replace("\\", "/")  # as some programs write them into zip archives
    *folders, name = path.split("/")
    return (
        name.startswith(FILE_STARTS)
        or name.endswith(FILE_END)
        or not FOLDERS.isdisjoint(folders)
        or any(f.startswith(FOLDER_START) or f.endswith(FOLDER_END) for f in folders)
        or WITHIN.search(path) is not None
    )
