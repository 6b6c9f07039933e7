"""Translate errors of the operating system into store errors."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transferlite.errors import AccessDeniedError, DiskFullError, InputError, NotFoundError, TransferLiteError


@contextmanager
def translate_os_errors(path: Path) -> Iterator[None]:
    """Turn operating system errors about ``path`` into store errors."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError("does not exist", where=str(path)) from None
    except IsADirectoryError:
        raise InputError("is a folder where a file is needed", where=str(path)) from None
    except PermissionError:
        raise AccessDeniedError("permission denied", where=str(path)) from None
    except ValueError as error:
        raise InputError(f"is not a path ({error})", where=repr(str(path))) from None
    except OSError as error:
        raise _disk_error(error, path) from error


def _disk_error(error: OSError, path: Path) -> TransferLiteError:
    where, text = str(path), str(error.strerror or error)
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFullError(text, where=where, hint="delete other files on this disk, or choose another disk")
    if error.errno == errno.EROFS:
        hint = "remount the disk for writing (mount -o remount,rw), or choose another; worn cards turn read-only"
        return TransferLiteError(text, where=where, hint=hint)
    if error.errno in {errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE}:
        hint = "connect the disk again; if the error stays, check it with fsck, or replace it"
        return TransferLiteError(text, where=where, hint=hint)
    if error.errno == errno.ENAMETOOLONG:
        return InputError(text, where=where)
    return TransferLiteError(text, where=where)
