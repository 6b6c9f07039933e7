"""Translate errors of the operating system into store errors."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transferlite.errors import AccessDeniedError, InputError, NotFoundError, TransferLiteError


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
        error_class = InputError if error.errno == errno.ENAMETOOLONG else TransferLiteError
        raise error_class(str(error.strerror), where=str(path)) from error
