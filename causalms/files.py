"""Files that are either whole or not there: write beside, then rename."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from causalms.errors import InputError


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path`` and rename it over ``path`` when the block ends without an error.

    The temporary name keeps the suffixes of ``path`` (``.nii.gz`` stays ``.nii.gz``), because readers choose by them.

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
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".writing-", suffix="".join(target.suffixes[-2:]), dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}); choose another place or free some room") from error
    beside = Path(name)
    try:
        yield beside
        os.chmod(beside, 0o666 & ~_umask())  # some writers replace the file and with it its permissions
        os.replace(beside, target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}); choose another place or free some room") from error
    finally:
        beside.unlink(missing_ok=True)


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
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target}: exists and is not an empty folder; name a new folder or remove this one first")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".writing-{target.name}-", dir=target.parent))
        os.chmod(beside, 0o777 & ~_umask())
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}); choose another place or free some room") from error
    try:
        yield beside
        if target.exists():
            target.rmdir()
        os.replace(beside, target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}); choose another place or free some room") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
