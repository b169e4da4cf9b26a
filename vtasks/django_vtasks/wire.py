"""Envelope ⇄ bytes: JSON, compressed with zstd when it pays, within size limits, versioned."""

import sys
from collections.abc import Sequence

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


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Envelope)


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


def _compressed(body: bytes, envelope: Envelope) -> bytes:
    if len(body) > MAX_BYTES:
        raise PayloadTooLarge(
            f"The arguments of {envelope.task} take {len(body):,} bytes; at most {MAX_BYTES:,} can be enqueued."
        )
    return zstd.compress(body)


def decode(payload: bytes) -> Envelope:
    """Return the envelope in a payload; raise PayloadError when there is none that can be read."""
    body = _decompress(payload) if payload.startswith(ZSTD_MAGIC) else payload
    if len(body) > MAX_BYTES:
        raise PayloadTooLarge(f"The payload exceeds {MAX_BYTES:,} bytes.")
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PayloadError(f"The payload cannot be read: {error}") from error


def stamped(envelope: Envelope, *, attempt: int, crashes: int) -> Envelope:
    """Return a freshly decoded envelope with the counts that its store keeps beside the payload."""
    # In place: nobody else has seen the envelope yet, and a copy costs as much as the decoding.
    force_setattr(envelope, "attempt", attempt)
    if envelope.crashes != crashes:  # as few have crashed
        force_setattr(envelope, "crashes", crashes)
    return envelope


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
