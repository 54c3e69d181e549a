"""Files that are either whole or not there: made in a folder beside, then renamed; what a killed run left is swept.

One rule for all outputs: a folder that is missing is made; one that cannot be made is refused before any work.
The folder beside (``.writing-...``) is locked by the run that writes in it.  The system frees the lock when that run ends in
whatever way, so the next run that writes to the same place knows which of these folders belong to nobody and removes them.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from causalms.errors import InputError

if sys.platform != "win32":
    import fcntl

_BESIDE = ".writing-"
_swept: set[str] = set()


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path`` and rename it over ``path`` when the block ends without an error.

    The temporary file has the name of ``path``, because writers choose by suffixes. A symbolic link stays a link: the
    file that it leads to is replaced. A file that is there keeps its permissions.

    Parameters
    ----------
    path : path-like
        The file to be written; its folder is made if it is missing.

    Yields
    ------
    pathlib.Path
        Where to write.

    Raises
    ------
    InputError
        If the disk is full or the folder cannot be written; nothing is left behind.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with whole_file(folder / "a.txt") as beside:
    ...     _ = beside.write_text("done")
    >>> [p.name for p in folder.iterdir()]
    ['a.txt']
    """
    target = Path(os.path.realpath(path))
    with _room_beside(target, path) as room:
        beside = room / target.name
        beside.touch()
        mode = stat.S_IMODE((target if target.exists() else beside).stat().st_mode)
        yield beside
        os.chmod(beside, mode)  # some writers replace the file and with it its permissions
        os.replace(beside, target)


@contextmanager
def whole_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Like :func:`whole_file` for a folder: filled beside, then renamed; an existing non-empty folder is never touched.

    Raises
    ------
    InputError
        If ``path`` exists and is not an empty folder, or the disk refuses.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> out = pathlib.Path(tempfile.mkdtemp()) / "trial"
    >>> with whole_folder(out) as beside:
    ...     _ = (beside / "x.txt").write_text("x")
    >>> sorted(p.name for p in out.iterdir())
    ['x.txt']
    """
    target = Path(os.path.realpath(path))
    refuse_taken_folder(path)
    with _room_beside(target, path) as room:
        beside = room / target.name
        beside.mkdir()
        yield beside
        if target.exists():
            target.rmdir()
        os.replace(beside, target)


def refuse_taken_folder(path: str | os.PathLike[str]) -> None:
    """Refuse a new folder where something stands already, other than an empty folder.

    Raises
    ------
    InputError
    """
    target = Path(os.path.realpath(path))
    if target.exists() and (not target.is_dir() or any(entry for entry in target.iterdir() if not _is_beside(entry.name))):
        raise InputError(f"{path}: exists and is not an empty folder; name a new folder or remove this one first")
    if target.is_mount():
        raise InputError(f"{path}: is a mount point, which cannot be replaced whole; name a new folder in it")


def refuse_unwritable(path: str | os.PathLike[str], as_folder: bool = False) -> None:
    """Refuse a file (or a folder to be filled) that could not be written, before the work that makes it.

    Looked at are the name, the folder (or the nearest one that exists, in which it would be made) and what stands there.

    Raises
    ------
    InputError

    Examples
    --------
    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> refuse_unwritable(folder / "new" / "a.csv")
    >>> (folder / "note").write_text("a file")
    6
    >>> try:
    ...     refuse_unwritable(folder / "note" / "a.csv")
    ... except InputError as error:
    ...     print(str(error).split(": ")[1])
    cannot be written, note is a file, not a folder; name another place
    """
    target = Path(os.path.realpath(path))
    try:
        here = target.stat()
    except (FileNotFoundError, NotADirectoryError):
        here = None
    except OSError as error:  # a name too long, links that lead in a circle, a folder that may not be entered
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another place or name") from error
    folder = next(parent for parent in target.parents if parent.exists())
    if not folder.is_dir():
        raise InputError(f"{path}: cannot be written, {folder.name} is a file, not a folder; name another place")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{path}: cannot be written, nothing may be written in folder {folder}; name another place")
    if here is None:
        return
    if as_folder != stat.S_ISDIR(here.st_mode):
        raise InputError(f"{path}: cannot be written, it is {'a file; name a folder' if as_folder else 'a folder; name a file'}")
    if not (as_folder or stat.S_ISREG(here.st_mode)):
        raise InputError(f"{path}: cannot be written whole, it is a device or a pipe; name a file")
    if not os.access(target, os.W_OK):
        raise InputError(f"{path}: cannot be written, it is write-protected; name another place or lift the protection")


def sweep(folder: str | os.PathLike[str]) -> None:
    """Remove what runs that were killed while writing left in a folder; what a living run writes stays.

    Where the file system has no locks nothing is removed.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in [entry for entry in entries if _is_beside(entry.name)]:
            _remove_unowned(Path(entry.path))


def _is_beside(name: str) -> bool:
    return name.startswith(_BESIDE)


def _remove_unowned(place: Path) -> None:
    if sys.platform == "win32":
        return
    try:
        handle = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if place.is_dir():
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink(missing_ok=True)
    except OSError:
        return  # a living run holds it, or there are no locks here
    finally:
        os.close(handle)


@contextmanager
def _room_beside(target: Path, path: str | os.PathLike[str]) -> Iterator[Path]:
    """A locked folder beside ``target``, gone when the block ends; errors of the disk name ``path``.

    Folders on the way to ``target`` that are missing are made; where the block fails they go again, unless they are used.
    """
    new = [folder for folder in target.parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if str(target.parent) not in _swept:  # once a process: a folder may hold a file for each of many patients
            sweep(target.parent)
            _swept.add(str(target.parent))
        room, lock = _locked_room(target.parent)
    except OSError as error:
        raise _refusal(path, error) from error
    try:
        yield room
    except OSError as error:
        raise _refusal(path, error) from error
    finally:
        shutil.rmtree(room, ignore_errors=True)
        if lock is not None:
            os.close(lock)
        for folder in new if not target.exists() else ():
            with suppress(OSError):  # something else stands in it by now
                folder.rmdir()


def _locked_room(folder: Path) -> tuple[Path, int | None]:
    while True:
        room = Path(tempfile.mkdtemp(prefix=_BESIDE, dir=folder))
        if sys.platform == "win32":
            return room, None
        try:
            handle = os.open(room, os.O_RDONLY)
        except FileNotFoundError:
            continue  # between its making and its locking another run swept it
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        if room.exists():
            return room, handle
        os.close(handle)


def _refusal(path: str | os.PathLike[str], error: OSError) -> InputError:
    return InputError(f"{path}: cannot be written ({error.strerror}); choose another place or free some room")


def without_times(archive: str | os.PathLike[str]) -> None:
    """Rewrite a zip archive (.docx, .xlsx) without the times of its members, so that equal content gives equal bytes.

    Examples
    --------
    >>> import pathlib, tempfile, zipfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "a.zip"
    >>> with zipfile.ZipFile(file, "w") as archive:
    ...     archive.writestr("a.txt", "text")
    >>> without_times(file)
    >>> zipfile.ZipFile(file).infolist()[0].date_time
    (1980, 1, 1, 0, 0, 0)
    """
    with zipfile.ZipFile(archive) as read:
        members = [(member.filename, read.read(member)) for member in read.infolist()]
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content in members:
            written.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
