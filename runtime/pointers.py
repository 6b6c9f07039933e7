"""A channel's pointer as something to trust: checked when it is read, gone on from and signed when it is changed."""

import datetime
from dataclasses import replace

from runtime.bundle import Pointer
from runtime.errors import InputError, UntrustedError
from runtime.signing import PublicKeys, Signer


def check_pointer(pointer: Pointer, channel: str, keys: PublicKeys, where: str) -> None:
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


def trusted(
    pointer: Pointer | None, channel: str, accepted: PublicKeys | None, signer: Signer | None, where: str
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
    signer: Signer | None,
    now: datetime.datetime,
) -> Pointer:
    """The pointer that takes the place of ``old``, signed if there is a signer.

    Its sequence is at least the time, so that a channel which was deleted, or begins to be signed, still goes up.
    """
    sequence = max(int(now.timestamp()), old.sequence + 1 if old else 0)
    pointer = Pointer(model_id, previous, now.isoformat(), channel, sequence)
    return replace(pointer, signature=signer.sign(pointer.signed_part())) if signer else pointer
