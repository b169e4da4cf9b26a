"""What a spec refuses, and how an exit is put into words."""

import pytest

from tests.unit.supervisor.trees import a_spec
from vtasks_supervisor.channel import LocalChannel
from vtasks_supervisor.errors import SpecError
from vtasks_supervisor.events import Cause, Exit
from vtasks_supervisor.mailbox import Mailbox


def test_a_child_needs_a_name():
    with pytest.raises(SpecError, match="needs a name"):
        a_spec("")


@pytest.mark.parametrize(
    "limit", ["start_timeout", "liveness_timeout", "stop_timeout", "max_work", "max_lifetime", "max_memory"]
)
@pytest.mark.parametrize("value", [0, -1])
def test_a_limit_that_is_not_positive_is_refused(limit, value):
    with pytest.raises(SpecError, match=f"'worker': {limit} must be positive, not {value}"):
        a_spec(**{limit: value})


@pytest.mark.parametrize(
    ("exit_", "reason"),
    [
        (Exit(cause=Cause.CRASHED, code=1), "exit code 1"),
        (Exit(cause=Cause.CRASHED, code=-9), "signal SIGKILL"),
        (Exit(cause=Cause.CRASHED, code=-200), "signal 200"),
        (Exit(cause=Cause.NOT_STARTED, error="OSError: no"), "OSError: no (exit code unknown)"),
        (Exit(cause=Cause.HUNG, code=-9, error="whatever"), "hung (signal SIGKILL)"),
    ],
)
def test_an_exit_has_a_reason_in_words(exit_, reason):
    assert exit_.reason == reason


@pytest.mark.parametrize(
    ("exit_", "outline"),
    [
        (Exit(cause=Cause.CRASHED, code=-9), "signal SIGKILL"),
        (Exit(cause=Cause.CRASHED, code=1, error="ValueError: my: secret"), "ValueError (exit code 1)"),
        (Exit(cause=Cause.NOT_STARTED, error="OSError: no"), "OSError (exit code unknown)"),
        (Exit(cause=Cause.HUNG, code=-9, error="whatever"), "hung (signal SIGKILL)"),
    ],
)
def test_the_outline_of_an_exit_leaves_out_the_text_of_an_exception(exit_, outline):
    assert exit_.outline == outline


async def test_a_full_mailbox_takes_no_more_until_a_message_is_taken():
    mailbox: Mailbox[str] = Mailbox(capacity=2)
    assert [mailbox.offer(message) for message in "abc"] == [True, True, False]
    assert len(mailbox) == 2

    assert await mailbox.take() == "a"
    assert mailbox.offer("d")


async def test_a_peer_in_the_same_process_that_does_not_read_gets_no_more_in_the_end():
    here, there = LocalChannel.pair()
    sent = 0
    while here.send(sent):
        sent += 1

    assert await there.receive() == 0
    assert here.send("again")
