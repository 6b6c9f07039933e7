"""Every error TransferLite raises on purpose: what happened, where, what to do next, and whether a retry helps."""

LEGACY_NEEDS = "the extra edge-legacy needs Python 3.11: tflite-runtime has wheels for Python 3.9 to 3.11 only"


class TransferLiteError(Exception):
    """The root of the tree.

    Attributes:
        message: what happened.
        where: the photo, file, URI or option concerned; empty when the message says it.
        hint: what to do next; empty when there is nothing to add.
        exit_code: the process's exit status: 2 when the user can mend it in the command or the data, otherwise 1.
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
        place = f"{self.where}: " if self.where else ""
        advice = f"; {self.hint}" if self.hint else ""
        return f"{place}{self.message}{advice}"


class InputError(TransferLiteError):
    """The command, its options or the data have to change."""

    exit_code = 2


class MissingExtraError(InputError):
    """A package of an optional extra is not installed; ``note`` adds to the hint."""

    def __init__(self, package: str, extra: str, note: str = "") -> None:
        hint = f"install the extra: pip install 'transferlite[{extra}]'"
        super().__init__(f"{package} is not installed", hint=f"{hint}; {note}" if note else hint)


class NotFoundError(InputError):
    """An object, folder, bucket, version or channel does not exist."""


class MissingStoreError(NotFoundError):
    """The bucket itself does not exist, so that nothing can be read from it or written to it."""


class PhotoError(InputError):
    """One photo cannot be used; ``code`` is a stable word for the reason (see ``transferlite.images.decoder``)."""

    def __init__(self, code: str, message: str, *, where: str = "", hint: str = "replace or remove it") -> None:
        super().__init__(message, where=where, hint=hint)
        self.code = code


class AccessDeniedError(TransferLiteError):
    """The store refused: no credentials, or credentials without the permission."""


class ConflictError(TransferLiteError):
    """A conditional write lost: the object changed, or exists already."""

    retryable = True


class UnavailableError(TransferLiteError):
    """The store did not answer, or asked to slow down."""

    retryable = True


class TimeLimitError(TransferLiteError):
    """What was asked for takes longer here than it may."""


class BundleError(TransferLiteError):
    """A bundle is incomplete, damaged, or of a form this release does not read."""


class UntrustedError(BundleError):
    """Not signed by an accepted key, altered since, or older than what was accepted before."""


class GateError(TransferLiteError):
    """A converted model does not agree with the trained one, so nothing was published."""


class StoppedError(TransferLiteError):
    """The job was told to stop (SIGTERM, as a Spot interruption sends it) and kept what it had."""

    exit_code = 143
    retryable = True
