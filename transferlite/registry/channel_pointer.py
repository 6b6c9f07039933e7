"""A channel's pointer as something to trust: checked when it is read, gone on from and signed when it is changed."""

import datetime
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from transferlite.errors import BundleError, InputError, UntrustedError
from transferlite.registry.manifest import check_model_id

if TYPE_CHECKING:  # a device without a key does without
    from transferlite.trust.keys import PublicKeys, Signer
    from transferlite.trust.signature import Signature


@dataclass(frozen=True)
class Pointer:
    """What a channel names now, and what it named before, newest first.

    ``sequence`` grows with each change of the channel, so that a device can tell an old pointer that is shown to it
    again from a rollback, which is a new one. The signature is of all the rest, :meth:`signed_part`.
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
            raise BundleError("the pointer's sequence is no number, or its channel no name")

    def to_json(self) -> bytes:
        """The pointer's content as stored."""
        return json.dumps(asdict(self)).encode() + b"\n"

    def signed_part(self) -> bytes:
        """The bytes that are signed: the content without the signature."""
        return json.dumps({name: value for name, value in asdict(self).items() if name != "signature"}).encode()

    @classmethod
    def from_json(cls, data: bytes, where: str = "") -> "Pointer":
        """Read a stored pointer. Raises BundleError when it is damaged."""
        try:
            raw = json.loads(data)
            signature = _signature(raw["signature"]) if raw.get("signature") else None
            later = (raw.get("channel", ""), raw.get("sequence", 0), signature)
            return cls(raw["model_id"], tuple(raw["previous"]), raw["updated_at"], *later)
        except BundleError as error:
            raise BundleError(error.message, where=where) from None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, InputError) as error:
            raise BundleError(f"the pointer cannot be read ({error})", where=where) from error


def _signature(raw: Any) -> "Signature":
    from transferlite.trust.signature import Signature

    return Signature.from_dict(raw)


def check_pointer(pointer: Pointer, channel: str, keys: "PublicKeys", where: str) -> None:
    """Raises UntrustedError unless one of ``keys`` signed the pointer, and for this channel."""
    keys.check(pointer.signed_part(), pointer.signature, where)
    if pointer.channel != channel:
        raise UntrustedError(f"is the pointer of another channel, {pointer.channel!r}", where=where)


def check_newer(pointer: Pointer, taken: int, where: str) -> None:
    """Raises UntrustedError for a pointer whose sequence is below that of one which was taken before: a replay."""
    if pointer.sequence < taken:
        raise UntrustedError(
            f"is older ({pointer.updated_at}, sequence {pointer.sequence}) than what has been taken already (sequence"
            f" {taken}): somebody shows an old pointer again",
            where=where,
            hint="a rollback is a new pointer: transferlite models rollback",
        )


def trusted_pointer(
    pointer: Pointer | None, channel: str, accepted: "PublicKeys | None", signer: "Signer | None", where: str
) -> Pointer | None:
    """The channel's pointer as far as a change may rest on it: its history and its sequence.

    A signed channel does not go on from a pointer that none of the ``accepted`` keys signed, but anew: from None.

    Raises:
        InputError: the channel is signed, and there is no signer.
    """
    if pointer is None:
        return None
    if signer is None or accepted is None:
        if pointer.signature is not None:
            hint = "give the key: --signing-key"
            raise InputError("is signed, and devices would refuse it unsigned", where=f"channel {channel}", hint=hint)
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
    old: Pointer | None,
    signer: "Signer | None",
    now: datetime.datetime,
) -> Pointer:
    """The pointer that takes the place of ``old``, signed if there is a signer.

    Its sequence is at least the time, so that a channel which was deleted, or begins to be signed, still goes up.
    """
    sequence = max(int(now.timestamp()), old.sequence + 1 if old else 0)
    pointer = Pointer(model_id, previous, now.isoformat(), channel, sequence)
    return replace(pointer, signature=signer.sign(pointer.signed_part())) if signer else pointer
