"""What every child promises its supervisor, wherever it runs: inherited by the tests of each place."""

import asyncio
import contextlib
from functools import partial

import pytest

from tests.contract import actors
from vtasks_supervisor.events import Cause
from vtasks_supervisor.frames import Beat, Pause, Ready, Resume, Retiring, Said, Stop, Tell
from vtasks_supervisor.spec import ChildSpec, Notes

PATIENCE = 20.0


async def soon(probe):
    """Wait until something is so that nobody tells."""
    async with asyncio.timeout(PATIENCE):
        while not probe():  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.001)


class Watched:
    """A child and the frames that came from it."""

    def __init__(self, make_child, spec):
        self.frames = []
        self._heard = asyncio.Event()
        self.child = make_child(spec, 7, self._listen)
        self.child.exited.add_done_callback(lambda _: self._heard.set())
        self.late = 0

    def _listen(self, child, frame):
        assert child is self.child
        self.late += child.exited.done()
        self.frames.append(frame)
        self._heard.set()

    async def hears(self, probe, times=1):
        """Wait until so many frames are such; return them."""
        try:
            async with asyncio.timeout(PATIENCE):
                while len(such := [frame for frame in self.frames if probe(frame)]) < times:
                    assert not self.child.exited.done(), f"It ended: {self.child.exited.result()}"
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            raise AssertionError(f"Only heard {self.frames}, of process {self.child.pid}") from None
        return such

    async def becomes_ready(self):
        await self.hears(lambda frame: isinstance(frame, Ready))
        return self

    async def says(self, times=1):
        """Wait until so many messages came; return all of them."""
        return [frame.message for frame in await self.hears(lambda frame: isinstance(frame, Said), times)]

    def tell(self, *messages):
        taken = [self.child.send(Tell(message)) for message in messages]
        return all(taken)

    async def exit(self):
        async with asyncio.timeout(PATIENCE):
            return await asyncio.shield(self.child.exited)


@contextlib.asynccontextmanager
async def all_ended():
    """Give a list for children, and end those that go on."""
    born: list[Watched] = []
    yield born
    for watched in born:
        if not watched.child.exited.done():
            watched.child.kill()
            await watched.exit()
        assert not watched.late, "a frame was heard after the end"
        assert not watched.child.send(Tell("anybody there?"))


class ChildContract:
    """Tests of one place; a subclass says how its children are made."""

    blocked = "waiting"

    def make_child(self, spec, incarnation, listen):
        raise NotImplementedError

    def spec(self, make, **fields):
        return ChildSpec(name="someone", make=make, **fields)

    @pytest.fixture
    async def start(self):
        """Give a function that starts a child."""
        async with all_ended() as born:

            async def start(make=actors.Echo, *, until_ready=True, **fields):
                watched = Watched(self.make_child, self.spec(make, **fields))
                born.append(watched)
                await watched.child.start()
                return await watched.becomes_ready() if until_ready else watched

            yield start

    # A life --------------------------------------------------------------------------------------------------

    async def test_messages_that_came_before_it_was_ready_are_handled_afterwards_in_order(self, start):
        watched = await start(until_ready=False)
        assert watched.tell(*range(200))

        assert await watched.says(200) == list(range(200))
        assert isinstance(watched.frames[0], Ready)

    async def test_the_actor_knows_its_name_and_incarnation(self, start):
        watched = await start(actors.Facts)
        watched.tell("identity")

        assert await watched.says() == [("someone", 7)]

    async def test_it_beats_with_the_actor_s_vitals(self, start):
        watched = await start(liveness_timeout=0.3)
        await watched.hears(lambda frame: isinstance(frame, Beat) and frame.vitals == {"work": 0})
        watched.tell("a", "b")
        (beat, *_) = await watched.hears(lambda frame: isinstance(frame, Beat) and frame.vitals == {"work": 2})

        assert beat.lag >= 0.0

    async def test_it_beats_though_nothing_happens(self, start):
        watched = await start(liveness_timeout=0.3)

        await watched.hears(lambda frame: isinstance(frame, Beat), times=4)

    async def test_it_pauses_and_resumes(self, start):
        watched = await start()
        for frame in (Pause(), Resume(), Pause()):
            watched.child.send(frame)

        assert await watched.says(3) == ["paused", "resumed", "paused"]

    async def test_it_can_ask_for_a_successor(self, start):
        watched = await start(actors.Leaving)
        watched.tell("retire")

        assert await watched.hears(lambda frame: isinstance(frame, Retiring)) == [Retiring("tired")]

    # An end as planned ---------------------------------------------------------------------------------------

    async def test_a_stop_lets_the_actor_finish(self, start):
        watched = await start()
        watched.child.send(Stop(12.5))
        exit_ = await watched.exit()

        assert (exit_.cause, exit_.code, exit_.error) == (Cause.PLANNED, 0, "")
        assert await watched.says() == [("stopping", 12.5), "stopped"]

    async def test_it_beats_while_it_stops(self, start):
        watched = await start(actors.Reluctant, liveness_timeout=0.3)
        watched.child.send(Stop(60.0))
        await watched.says()
        before = sum(isinstance(frame, Beat) for frame in watched.frames)

        await watched.hears(lambda frame: isinstance(frame, Beat), times=before + 3)

    async def test_a_second_stop_can_only_hurry_the_first(self, start):
        watched = await start(actors.Reluctant)
        watched.child.send(Stop(60.0))
        watched.child.send(Stop(1.0))
        await watched.says()
        watched.child.send(Stop(0.0, at_once=True))
        exit_ = await watched.exit()

        assert exit_.cause is Cause.PLANNED
        assert await watched.says() == [("stopping", 60.0), "hurried"]

    async def test_a_stop_during_the_start_ends_it(self, start):
        watched = await start(actors.NeverReady, until_ready=False)
        await watched.says()
        watched.child.send(Stop(5.0))
        exit_ = await watched.exit()

        assert (exit_.cause, exit_.code) == (Cause.PLANNED, 0)
        assert await watched.says() == ["starting", ("stopping", 5.0), "stopped"]
        assert not [frame for frame in watched.frames if isinstance(frame, Ready)]

    async def test_an_actor_that_finishes_by_itself_has_as_much_time_as_one_that_is_stopped(self, start):
        watched = await start(actors.Leaving, stop_timeout=7.5)
        watched.tell("finish")
        exit_ = await watched.exit()

        assert exit_.cause is Cause.PLANNED
        assert await watched.says() == ["finish", ("stopping", 7.5), "stopped"]

    # An end by failure ---------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("place", "frame"),
        [
            ("make", None), ("on_start", None), ("vitals", None),
            ("handle", Tell("hello")), ("on_pause", Pause()), ("on_stop", Stop(5.0)),
        ],
    )  # fmt: skip
    async def test_an_exception_ends_it_and_is_told(self, start, place, frame):
        watched = await start(partial(actors.Failing, place), until_ready=False)
        if frame is not None:
            watched.child.send(frame)
        exit_ = await watched.exit()

        assert (exit_.cause, exit_.code) == (Cause.CRASHED, 1)
        assert exit_.error == f"ValueError: no {place}"
        assert "in fail_at" in exit_.traceback

    async def test_a_sys_exit_ends_the_actor_only_and_is_a_failure(self, start):
        watched = await start(actors.Leaving)
        watched.tell("sys.exit")
        exit_ = await watched.exit()

        assert exit_.cause is Cause.CRASHED
        assert exit_.error == "RuntimeError: The actor called sys.exit(3)"

    async def test_a_kill_ends_it_whatever_it_does(self, start):
        watched = await start(actors.Standing)
        watched.tell(self.blocked)
        await watched.says()
        watched.child.kill()
        exit_ = await watched.exit()

        assert (exit_.cause, exit_.code, exit_.status) == (Cause.CRASHED, -9, "signal SIGKILL")

    async def test_its_stacks_show_where_it_stands(self, start):
        watched = await start(actors.Standing)
        watched.tell(self.blocked)
        await watched.says()
        watched.child.dump()
        await soon(lambda: f"stand_{self.blocked}" in watched.child.stacks())
        watched.child.kill()

        assert f"stand_{self.blocked}" in (await watched.exit()).dump

    # Notes ---------------------------------------------------------------------------------------------------

    async def test_its_notes_outlive_it(self, start):
        watched = await start(actors.Noting, notes=Notes(entries=4, width=16))
        watched.tell((0, b"a longer note"), (1, b"one"), (2, b"two"), (0, b"short"), (1, None))
        await watched.says(5)
        watched.child.kill()

        assert (await watched.exit()).notes == (b"short", b"two")

    async def test_without_a_recorder_there_are_no_notes(self, start):
        watched = await start()
        watched.child.kill()

        assert (await watched.exit()).notes is None
