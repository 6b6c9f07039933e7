"""Exceptions that TransferLite raises on purpose.

- ``TransferLiteError``
    - ``InputError``: fix the command, its options or the data
        - ``MissingExtraError``
        - ``NotFoundError``
            - ``MissingStoreError``
        - ``PhotoError``
    - ``AccessDeniedError``
    - ``DiskFullError``
    - ``ConflictError`` (retryable)
    - ``UnavailableError`` (retryable)
    - ``BundleError``
        - ``UntrustedError``
        - ``NotClassifierError``
    - ``GateError``
    - ``TimeLimitError``
    - ``StoppedError`` (retryable)
"""

EDGE_LEGACY_HINT = "the extra edge-legacy needs Python 3.11: tflite-runtime has wheels for Python 3.9 to 3.11 only"


class TransferLiteError(Exception):
    """Base class of every TransferLite exception.

    Attributes:
        message: what happened.
        where: the photo, file, URI or option concerned; empty if the message names it.
        hint: what to do next; empty if there is nothing to add.
        exit_code: exit status of a command that fails with it: 2 if the user has to fix the input, otherwise 1.
        retryable: whether the same call may succeed later without any change.
    """

    exit_code = 1
    retryable = False

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        prefix = f"{self.where}: " if self.where else ""
        suffix = f"; {self.hint}" if self.hint else ""
        return f"{prefix}{self.message}{suffix}"


# Wrong input


class InputError(TransferLiteError):
    """The command, an option or the data is invalid."""

    exit_code = 2


class MissingExtraError(InputError):
    """A package of an optional extra is not installed."""

    def __init__(self, package: str, extra: str, note: str = "") -> None:
        hint = f"install the extra: pip install 'transferlite[{extra}]'"
        super().__init__(f"{package} is not installed", hint=f"{hint}; {note}" if note else hint)


class NotFoundError(InputError):
    """An object, folder, version or channel does not exist."""


class MissingStoreError(NotFoundError):
    """The bucket or share itself does not exist."""


class PhotoError(InputError):
    """A photo cannot be used; ``code`` is the machine-readable reason.

    Codes: see ``transferlite.images.decoder``.
    """

    def __init__(self, code: str, message: str, *, where: str = "", hint: str = "replace or remove it") -> None:
        super().__init__(message, where=where, hint=hint)
        self.code = code


# Stores


class AccessDeniedError(TransferLiteError):
    """The store denied access: credentials are missing or lack the permission."""


class DiskFullError(TransferLiteError):
    """The disk has too little free space."""


class ConflictError(TransferLiteError):
    """A conditional write failed because the object exists already or was changed by another writer."""

    retryable = True


class ReplacedError(ConflictError):
    """A channel points to another version than the one that was to be replaced."""


class UnavailableError(TransferLiteError):
    """The store could not be reached, failed, or throttled the request."""

    retryable = True


# Models


class BundleError(TransferLiteError):
    """A bundle is incomplete or damaged, or this release cannot read its schema."""


class UntrustedError(BundleError):
    """A manifest or channel pointer is unsigned, altered, replayed, or signed by a key that is not accepted."""


class NotClassifierError(BundleError):
    """A ``.tflite`` file is of another format, is damaged, or holds no image classifier."""

    exit_code = 2


class GateError(TransferLiteError):
    """A converted model does not reproduce the trained one, so nothing was published."""


# Running work


class TimeLimitError(TransferLiteError):
    """The work would exceed its time limit."""


class StoppedError(TransferLiteError):
    """SIGTERM stopped the job, as on a Spot interruption; its checkpoint is saved."""

    exit_code = 143
    retryable = True
