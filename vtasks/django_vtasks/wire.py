"""Envelope ⇄ bytes: JSON, compressed with zstd when it pays, within size limits, versioned."""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec.structs import force_setattr

from django_vtasks.envelope import Envelope
from django_vtasks.errors import PayloadError, PayloadTooLarge

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COMPRESS_ABOVE = 1024
MAX_BYTES = 16 * 1024 * 1024
"""The largest uncompressed payload, in bytes; larger data belongs in a file or a table."""

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
"""How a compressed payload begins."""
SAYS_UNIQUE = b'"unique"'
"""What stands in the payload of a unique task, unless it is compressed; and perhaps in others."""
VERSION = Envelope.__struct_config__.tag
OF_ONE_LIFE = ("run_after", "attempt", "crashes")
"""Fields that a task which is enqueued anew begins without."""


class _Versioned(msgspec.Struct):
    """What payloads of all versions say."""

    v: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Envelope)
_version_decoder = msgspec.json.Decoder(_Versioned)
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode(envelope: Envelope) -> bytes:
    """Return the payload of an envelope; raise PayloadTooLarge, or TypeError for what JSON cannot say."""
    try:
        body = _encoder.encode(envelope)
    except (ValueError, RecursionError) as error:  # lone surrogates, integers of thousands of digits, deep nesting
        raise TypeError(f"The arguments of {envelope.task} are not valid JSON: {error}") from error
    return body if len(body) <= COMPRESS_ABOVE else _compressed(body, envelope)


def encode_all(envelopes: Sequence[Envelope]) -> list[bytes]:
    """Return the payloads of several envelopes; raise what encode() does."""
    if len(envelopes) == 1:
        return [encode(envelopes[0])]
    try:
        *bodies, _ = _encoder.encode_lines(envelopes).split(b"\n")  # no other line ends in JSON
    except (ValueError, RecursionError):
        return [encode(envelope) for envelope in envelopes]  # which tells of which task they are
    if max(map(len, bodies), default=0) <= COMPRESS_ABOVE:
        return bodies
    return [
        body if len(body) <= COMPRESS_ABOVE else _compressed(body, envelope)
        for body, envelope in zip(bodies, envelopes, strict=True)
    ]


def encode_anew(envelope: Envelope, former: bytes) -> bytes:
    """Return the payload of a task that is enqueued anew, with what its former payload says that is unknown here.

    A later version may have put it there, whose workers may run the task.
    """
    try:
        fields: dict[str, Any] = dict(_fields_decoder.decode(unpacked(former)))
    except _UNDECODABLE:  # names that are no text, which who reads the fields it knows has not looked at
        return encode(envelope)
    kept = {name: value for name, value in fields.items() if name not in OF_ONE_LIFE}
    body = _encoder.encode(kept | {"enqueued_at": envelope.enqueued_at})
    return body if len(body) <= COMPRESS_ABOVE else _compressed(body, envelope)


def _compressed(body: bytes, envelope: Envelope) -> bytes:
    if len(body) > MAX_BYTES:
        raise PayloadTooLarge(
            f"The arguments of {envelope.task} take {len(body):,} bytes; at most {MAX_BYTES:,} can be enqueued."
        )
    return zstd.compress(body)


def decode(payload: bytes) -> Envelope:
    """Return the envelope in a payload; raise PayloadError when there is none that can be read."""
    body = unpacked(payload)
    try:
        return _decoder.decode(body)
    except _UNDECODABLE as error:
        raise PayloadError(f"The payload cannot be read: {_other_version(body) or error}") from error


def unpacked(payload: bytes) -> bytes:
    """Return the JSON in a payload, if it is any; raise PayloadError when it is damaged or too large."""
    body = _decompress(payload) if payload.startswith(ZSTD_MAGIC) else payload
    if len(body) > MAX_BYTES:
        raise PayloadTooLarge(f"The payload exceeds {MAX_BYTES:,} bytes.")
    return body


def stamped(envelope: Envelope, *, attempt: int, crashes: int) -> Envelope:
    """Return a freshly decoded envelope with the counts that its store keeps beside the payload."""
    # In place: nobody else has seen the envelope yet, and a copy costs as much as the decoding.
    force_setattr(envelope, "attempt", attempt)
    if envelope.crashes != crashes:  # as few have crashed
        force_setattr(envelope, "crashes", crashes)
    return envelope


def _other_version(body: bytes) -> str | None:
    """Return why nothing can be read in a payload of another version."""
    try:
        version = _version_decoder.decode(body).v
    except _UNDECODABLE:
        return None
    if version == VERSION:
        return None
    return f"its format has version {version}, and this release of django-vtasks knows version {VERSION}."


def _decompress(payload: bytes) -> bytes:
    decompressor = zstd.ZstdDecompressor()
    try:
        # One byte over the limit tells a bomb from a payload without unpacking the bomb.
        body = decompressor.decompress(payload, max_length=MAX_BYTES + 1)
    except zstd.ZstdError as error:
        raise PayloadError(f"The payload cannot be decompressed: {error}") from error
    if len(body) > MAX_BYTES:
        raise PayloadTooLarge(f"The payload exceeds {MAX_BYTES:,} bytes when decompressed.")
    if not decompressor.eof:
        raise PayloadError("The compressed payload is truncated.")
    return body
