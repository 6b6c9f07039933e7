"""A channel's pointer: its JSON form, the checks when it is read, and its successor when the channel changes."""

import datetime
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from transferlite.errors import BundleError, InputError, UntrustedError
from transferlite.registry.manifest import check_model_id

if TYPE_CHECKING:  # a device without a key does not need cryptography
    from transferlite.trust.keys import PublicKeys, Signer
    from transferlite.trust.signature import Signature


@dataclass(frozen=True)
class Pointer:
    """The model version that a channel points to.

    Attributes:
        model_id: the current version.
        previous: the versions before it, newest first.
        updated_at: time of the last change, in ISO form.
        channel: the channel's name; empty in pointers written before signing existed.
        sequence: grows with every change, so that a device can tell a replayed old pointer from a rollback, which is a
            new pointer.
        signature: covers all other fields (:meth:`signed_part`); None if unsigned.
    """

    model_id: str
    previous: tuple[str, ...]
    updated_at: str
    channel: str = ""
    sequence: int = 0
    signature: "Signature | None" = None

    def __post_init__(self) -> None:
        for model_id in (self.model_id, *self.previous):
            check_model_id(model_id)
        if type(self.sequence) is not int or not isinstance(self.channel, str):
            raise BundleError("the pointer's sequence is not an integer, or its channel is not a string")

    def to_json(self) -> bytes:
        """Return the stored form."""
        return json.dumps(asdict(self)).encode() + b"\n"

    def signed_part(self) -> bytes:
        """Return the bytes that the signature covers: the JSON without the signature."""
        return json.dumps({name: value for name, value in asdict(self).items() if name != "signature"}).encode()

    @classmethod
    def from_json(cls, data: bytes, where: str = "") -> "Pointer":
        """Parse the stored form. Raises BundleError if it is damaged."""
        if not data.strip(b"\0 \r\n"):  # an interrupted copy, or zeros after a power cut
            raise BundleError("the pointer is empty", where=where)
        try:
            raw = json.loads(data)
            signature = _parse_signature(raw["signature"]) if raw.get("signature") else None
            optional = (raw.get("channel", ""), raw.get("sequence", 0), signature)
            return cls(raw["model_id"], tuple(raw["previous"]), raw["updated_at"], *optional)
        except BundleError as error:
            raise BundleError(error.message, where=where) from None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, InputError) as error:
            raise BundleError(f"the pointer cannot be read ({error})", where=where) from error


def _parse_signature(raw: Any) -> "Signature":
    from transferlite.trust.signature import Signature

    return Signature.from_dict(raw)


def check_pointer(pointer: Pointer, channel: str, keys: "PublicKeys", where: str) -> None:
    """Raise UntrustedError unless one of ``keys`` signed the pointer, for this channel."""
    keys.check(pointer.signed_part(), pointer.signature, where)
    if pointer.channel != channel:
        raise UntrustedError(f"is the pointer of another channel, {pointer.channel!r}", where=where)


def check_not_replayed(pointer: Pointer, accepted_sequence: int, where: str) -> None:
    """Raise UntrustedError for a replay: a sequence below that of a pointer accepted earlier."""
    if pointer.sequence < accepted_sequence:
        raise UntrustedError(
            f"is older (sequence {pointer.sequence}, {pointer.updated_at}) than the accepted pointer (sequence"
            f" {accepted_sequence}): an old pointer was replayed",
            where=where,
            hint="to go back to an older model, use: transferlite models rollback",
        )


def accept_pointer(
    pointer: Pointer | None, channel: str, accepted: "PublicKeys | None", signer: "Signer | None", where: str
) -> Pointer | None:
    """Return the pointer if a change may keep its history and sequence, otherwise None.

    When signing, a pointer that none of the ``accepted`` keys signed is dropped: the channel's history restarts.

    Raises:
        InputError: the channel is signed, and there is no signer.
    """
    if pointer is None:
        return None
    if signer is None or accepted is None:
        if pointer.signature is not None:
            hint = "give the key: --signing-key"
            raise InputError(
                "is signed, and devices would reject an unsigned pointer", where=f"channel {channel}", hint=hint
            )
        return pointer
    try:
        check_pointer(pointer, channel, accepted, where)
    except UntrustedError:
        return None
    return pointer


def next_pointer(
    channel: str,
    model_id: str,
    previous: tuple[str, ...],
    current: Pointer | None,
    signer: "Signer | None",
    now: datetime.datetime,
) -> Pointer:
    """Create the pointer that replaces ``current``, signed if there is a signer.

    The sequence is at least the Unix time, so that it also grows after the channel was deleted or first signed.
    """
    sequence = max(int(now.timestamp()), current.sequence + 1 if current else 0)
    pointer = Pointer(model_id, previous, now.isoformat(), channel, sequence)
    return replace(pointer, signature=signer.sign(pointer.signed_part())) if signer else pointer
