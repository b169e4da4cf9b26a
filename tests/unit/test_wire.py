"""What goes through the wire comes out the same, or is refused with a PayloadError."""

import json
import sys
from contextlib import suppress

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from django_vtasks import wire
from django_vtasks.envelope import Envelope, Unique
from django_vtasks.errors import PayloadError, PayloadTooLarge
from tests.contract.given import a_task, mutex, throttle
from tests.contract.unreadable import UNREADABLE, bomb

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

texts = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers() | st.integers(-(10**300), 10**300) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=30,
)
seconds = st.floats(0, 1e11)
uniques = st.builds(Unique, key=texts, ttl=st.none() | seconds, keep=st.booleans())
envelopes = st.builds(
    Envelope,
    id=texts,
    task=texts,
    queue=texts,
    args=st.lists(values, max_size=5),
    kwargs=st.dictionaries(texts, values, max_size=5),
    enqueued_at=seconds,
    priority=st.integers(-100, 100),
    run_after=st.none() | seconds,
    max_rescues=st.integers(0, 10),
    unique=st.none() | uniques,
    headers=st.dictionaries(texts, texts, max_size=3),
)


@given(envelopes)
@example(a_task("x" * (wire.COMPRESS_ABOVE * 3)))
@example(replace(a_task(), unique=throttle(), headers={"trace": "00-4bf9"}))
def test_an_envelope_survives(envelope):
    assert wire.decode(wire.encode(envelope)) == envelope


@given(st.lists(envelopes, max_size=5))
@example([a_task("x" * (wire.COMPRESS_ABOVE * 3)), a_task("\n")])
def test_several_are_encoded_as_each_is_alone(several):
    assert wire.encode_all(several) == [wire.encode(each) for each in several]


@pytest.mark.parametrize(
    ("bad", "error"), [("\ud800", TypeError), ("x" * (wire.MAX_BYTES + 1), PayloadTooLarge)], ids=["surrogate", "large"]
)
def test_of_several_the_one_that_cannot_be_encoded_is_named(bad, error):
    with pytest.raises(error, match=r"tests\.app\.tasks\.bad"):
        wire.encode_all([a_task("good"), replace(a_task(bad), task="tests.app.tasks.bad")])


@given(values)
def test_an_argument_arrives_as_the_json_module_would_deliver_it(value):
    [arrived] = wire.decode(wire.encode(a_task(value))).args

    assert json.dumps(arrived, sort_keys=True) == json.dumps(json.loads(json.dumps(value)), sort_keys=True)


@given(st.integers(0, 3 * wire.COMPRESS_ABOVE))
def test_arguments_of_any_size_survive(size):
    envelope = a_task("x" * size)

    assert wire.decode(wire.encode(envelope)) == envelope


def test_only_large_payloads_are_compressed():
    small, large = wire.encode(a_task("x")), wire.encode(a_task("x" * wire.COMPRESS_ABOVE))

    assert small.startswith(b"{")
    assert large.startswith(ZSTD_MAGIC)
    assert len(large) < wire.COMPRESS_ABOVE


def test_a_payload_of_the_largest_size_survives():
    envelope = a_task("")
    room = wire.MAX_BYTES - len(msgspec.json.encode(envelope))
    largest = replace(envelope, args=["x" * room])

    assert wire.decode(wire.encode(largest)) == largest
    with pytest.raises(PayloadTooLarge, match=r"demo\.tasks\.send.*at most 16,777,216"):
        wire.encode(replace(envelope, args=["x" * (room + 1)]))


def test_what_no_field_needs_takes_no_space():
    assert b"unique" not in wire.encode(a_task())
    assert b"unique" in wire.encode(a_task(unique=mutex()))


NOT_JSON = {
    "an object": object(),
    "a complex number": 1j,
    "an object as a key": {object(): 1},
    "a lone surrogate": "\ud800",
    "a lone surrogate as a key": {"\udcff": 1},
}


@pytest.mark.parametrize("argument", NOT_JSON.values(), ids=NOT_JSON)
def test_what_json_cannot_say_is_a_type_error(argument):
    with pytest.raises(TypeError):
        wire.encode(a_task(argument))


@pytest.mark.parametrize("payload", UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_task_is_a_payload_error(payload):
    with pytest.raises(PayloadError):
        wire.decode(payload)


def test_a_bomb_is_told_by_its_size():
    with pytest.raises(PayloadTooLarge, match="when decompressed"):
        wire.decode(UNREADABLE["a bomb"])


def test_a_bomb_that_does_not_tell_its_size_is_told_by_what_comes_out():
    payload = bomb(100)

    assert len(payload) < 10_000
    with pytest.raises(PayloadTooLarge, match="when decompressed"):
        wire.decode(payload)


def test_a_plain_payload_above_the_limit_is_told_by_its_size():
    with pytest.raises(PayloadTooLarge):
        wire.decode(msgspec.json.encode(a_task("x" * wire.MAX_BYTES)))


@given(st.data(), envelopes | st.just(a_task("x" * 5000)))
def test_every_truncated_payload_is_a_payload_error(data, envelope):
    payload = wire.encode(envelope)
    length = data.draw(st.integers(0, len(payload) - 1))

    with pytest.raises(PayloadError):
        wire.decode(payload[:length])


@given(st.binary(), st.sampled_from([b"", b"{", b'{"v":1,', ZSTD_MAGIC]))
def test_random_bytes_raise_nothing_but_a_payload_error(noise, prefix):
    with pytest.raises(PayloadError):
        wire.decode(prefix + noise)


@given(st.data(), st.sampled_from([wire.encode(a_task("é", unique=mutex())), wire.encode(a_task("x" * 5000))]))
def test_a_payload_with_a_damaged_byte_decodes_or_raises_a_payload_error(data, payload):
    position = data.draw(st.integers(0, len(payload) - 1))
    damaged = bytearray(payload)
    damaged[position] = data.draw(st.integers(0, 255))

    with suppress(PayloadError):
        assert isinstance(wire.decode(bytes(damaged)), Envelope)


@given(st.binary(max_size=2000))
def test_compressed_random_bytes_raise_nothing_but_a_payload_error(noise):
    with pytest.raises(PayloadError):
        wire.decode(zstd.compress(noise))


@given(st.integers(2, 10**6), envelopes)
def test_another_version_is_a_payload_error(version, envelope):
    body = msgspec.json.encode(msgspec.to_builtins(envelope) | {"v": version})

    with pytest.raises(PayloadError, match=f"has version {version}, .* knows version 1"):
        wire.decode(body)


@given(envelopes)
def test_a_later_version_is_named_although_nothing_else_is_as_in_this(envelope):
    body = msgspec.json.encode({"v": 2, "what": [envelope.task]})

    with pytest.raises(PayloadError, match="has version 2"):
        wire.decode(body)


@given(envelopes, st.dictionaries(texts.map("later {}".format), texts))
def test_a_payload_that_is_encoded_anew_is_the_new_envelope_and_keeps_what_is_unknown(envelope, unknown):
    former = msgspec.json.encode(msgspec.to_builtins(envelope) | unknown)
    anew = envelope.anew(1e9)

    payload = wire.encode_anew(anew, zstd.compress(former))

    assert wire.decode(payload) == anew
    assert unknown.items() <= msgspec.json.decode(wire.unpacked(payload)).items()


def test_a_payload_with_a_name_that_is_no_text_can_be_encoded_anew():
    envelope = a_task()
    former = wire.encode(envelope)[:-1] + b',"\xff":1}'

    assert wire.decode(former) == envelope
    assert wire.decode(wire.encode_anew(envelope, former)) == envelope


@given(st.integers(0, 100), st.integers(0, 100), envelopes)
def test_the_counts_of_the_store_are_stamped_on_a_decoded_envelope(attempt, crashes, envelope):
    decoded = wire.decode(wire.encode(envelope))

    assert wire.stamped(decoded, attempt=attempt, crashes=crashes) == replace(
        envelope, attempt=attempt, crashes=crashes
    )


@pytest.mark.parametrize("field", ["enqueued_at", "run_after"])
@pytest.mark.parametrize("moment", [1e15, -1e15])
def test_a_moment_that_no_calendar_has_is_refused(field, moment):
    payload = json.dumps(
        {"v": 1, "id": "1", "task": "t", "queue": "q", "args": [], "kwargs": {}, "enqueued_at": 0.0} | {field: moment}
    )

    with pytest.raises(PayloadError):
        wire.decode(payload.encode())
