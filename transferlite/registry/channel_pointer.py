"""A channel's pointer: its signed JSON form, the checks when it is read, and its successor when the channel changes."""

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from transferlite.errors import BundleError, InputError, UntrustedError
from transferlite.registry.manifest import check_model_id
from transferlite.registry.schema import MIN_RELEASE, SCHEMA, check_schema
from transferlite.trust.envelope import Envelope

if TYPE_CHECKING:  # a device without a key does not need cryptography
    from transferlite.trust.keys import PublicKeys, Signer

POINTER_TYPE = "application/vnd.transferlite.pointer+json"
MAX_WITHDRAWN = 200
"""Withdrawn versions that a pointer remembers, newest first."""
_MAX_VALIDITY = datetime.timedelta(days=3650)


@dataclass(frozen=True)
class Pointer:
    """The model version that a channel points to, stored as the payload of a DSSE envelope.

    ``dataclasses.replace`` gives an unsigned pointer.

    Attributes:
        model_id: the current version.
        previous: the versions before it, newest first; none of them was withdrawn.
        updated_at: time of the last change, in ISO form.
        channel: the channel's name.
        sequence: grows with every change, so that a device can tell a replayed old pointer from a rollback, which is a
            new pointer.
        expires_at: time in ISO form after which devices warn that they no longer receive new pointers; None for never.
        withdrawn: versions that the channel rolled back from, newest first: devices must not install them again.
        unknown: fields of newer releases, kept when the channel changes.
        envelope: the signed bytes with their signatures; None if unsigned.
    """

    model_id: str
    previous: tuple[str, ...]
    updated_at: str
    channel: str = ""
    sequence: int = 0
    expires_at: str | None = None
    withdrawn: tuple[str, ...] = ()
    unknown: Mapping[str, Any] = field(default_factory=dict)
    envelope: Envelope | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        texts = (self.model_id, *self.previous, *self.withdrawn, self.channel, self.updated_at)
        if type(self.sequence) is not int or not all(isinstance(text, str) for text in texts):
            raise BundleError("the pointer's sequence is not an integer, or another field is not a string")
        for model_id in (self.model_id, *self.previous, *self.withdrawn):
            check_model_id(model_id)
        if self.expires_at is not None and _time(self.expires_at) is None:
            raise BundleError(f"the pointer's expiry {self.expires_at!r} is not a time with a zone")

    def is_expired(self, now: datetime.datetime) -> bool:
        """Return whether the pointer's validity ended before ``now``."""
        return self.expires_at is not None and now > datetime.datetime.fromisoformat(self.expires_at)

    @property
    def validity(self) -> datetime.timedelta | None:
        """Time from the last change to the expiry, at most 10 years; None if the pointer does not expire."""
        start, end = _time(self.updated_at), _time(self.expires_at or "")
        return min(end - start, _MAX_VALIDITY) if start and end and start < end else None

    def to_json(self) -> bytes:
        """Return the stored form; of a signed pointer, the bytes that were signed."""
        return (self.envelope or Envelope(POINTER_TYPE, self._payload())).to_json()

    def signed(self, signer: "Signer | None") -> "Pointer":
        """Return the pointer signed, or itself if there is no signer."""
        if signer is None:
            return self
        from transferlite.trust.keys import seal

        return self._in(seal(POINTER_TYPE, self._payload(), signer))

    def _in(self, envelope: Envelope) -> "Pointer":
        pointer = replace(self)
        object.__setattr__(pointer, "envelope", envelope)
        return pointer

    def _payload(self) -> bytes:
        content = {
            "schema": SCHEMA,
            "min_release": MIN_RELEASE,
            "channel": self.channel,
            "model_id": self.model_id,
            "previous": self.previous,
            "withdrawn": self.withdrawn,
            "sequence": self.sequence,
            "updated_at": self.updated_at,
            "expires_at": self.expires_at,
        }
        return json.dumps({**self.unknown, **content}).encode()

    @classmethod
    def from_json(cls, data: bytes, where: str = "") -> "Pointer":
        """Parse the stored form, unchecked. Raises BundleError if it is damaged or needs a newer release."""
        if not data.strip(b"\0 \r\n"):  # an interrupted copy, or zeros after a power cut
            raise BundleError("the pointer is empty", where=where)
        try:
            envelope = Envelope.from_dict(_without_old_format(json.loads(data)))
            if envelope.payload_type != POINTER_TYPE:
                raise BundleError(f"the pointer cannot be read (it is of type {envelope.payload_type!r})")
            pointer = _parse_payload(json.loads(envelope.payload))
        except BundleError as error:
            raise BundleError(error.message, where=where, hint=error.hint) from None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, InputError) as error:
            raise BundleError(f"the pointer cannot be read ({error})", where=where) from error
        return pointer._in(envelope) if envelope.signatures else pointer


_FIELDS = {"schema", "min_release", "channel", "model_id", "previous", "withdrawn", "sequence", "updated_at"}
_FIELDS |= {"expires_at"}


def _parse_payload(raw: dict[str, Any]) -> Pointer:
    check_schema(raw, "pointer")
    return Pointer(
        raw["model_id"],
        _names(raw["previous"]),
        raw["updated_at"],
        raw["channel"],
        raw["sequence"],
        raw.get("expires_at"),
        _names(raw.get("withdrawn", [])),
        {name: value for name, value in raw.items() if name not in _FIELDS},
    )


def _names(raw: Any) -> tuple[str, ...]:
    if not isinstance(raw, list):
        raise BundleError("the pointer cannot be read (its versions are not a list)")
    return tuple(raw)


def _without_old_format(raw: Any) -> Any:
    if isinstance(raw, dict) and "model_id" in raw:
        raise BundleError("the pointer was written before release 0.1.0, which changed its format")
    return raw


def _time(text: str) -> datetime.datetime | None:
    """Parse a time in ISO form with a zone; None if it is not one."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except (ValueError, TypeError):
        return None
    return moment if moment.tzinfo else None


def check_pointer(pointer: Pointer, channel: str, keys: "PublicKeys", where: str) -> None:
    """Raise UntrustedError unless one of ``keys`` signed the pointer, for this channel."""
    keys.check(pointer.envelope or Envelope(POINTER_TYPE, b""), where)
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
        if pointer.envelope is not None:
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
    current: Pointer | None,
    previous: tuple[str, ...],
    withdrawn: tuple[str, ...],
    now: datetime.datetime,
    validity: datetime.timedelta | None,
) -> Pointer:
    """Create the pointer that replaces ``current``; it keeps the fields that this release does not know.

    The sequence is at least the time in microseconds, so that it also grows after the channel was deleted, damaged or
    first signed.

    Args:
        channel: the channel's name.
        model_id: the version.
        current: the pointer to replace; None if there is none.
        previous: versions before ``model_id``, newest first.
        withdrawn: versions that the channel left by a rollback, newest first.
        now: the time of the change.
        validity: time until the pointer expires; None for as long as that of ``current``, zero for no expiry.
    """
    if validity is None:
        validity = current.validity if current else None
    return Pointer(
        model_id,
        tuple(name for name in previous if name not in withdrawn),
        now.replace(microsecond=0).isoformat(),
        channel,
        max(int(now.timestamp() * 1e6), current.sequence + 1 if current else 0),
        (now + validity).replace(microsecond=0).isoformat() if validity else None,
        withdrawn[:MAX_WITHDRAWN],
        current.unknown if current else {},
    )
