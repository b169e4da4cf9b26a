"""Stores that restart, are killed, freeze, refuse, or lose their connections, of any kind."""

import signal
import time

from load_tests.chaos import queues
from load_tests.chaos.ground import Served
from load_tests.chaos.grounds import SERVED, ValkeyGround
from load_tests.chaos.ledger import Event
from load_tests.chaos.pairs import PairGround
from load_tests.chaos.run import LEASE, Run
from load_tests.chaos.scenario import Bounds, scenario
from load_tests.chaos.scheduling import SCHEDULE, judge_slots
from load_tests.chaos.servers import held_connections, kill_connections

RESTARTS = "restarts under load"
TAKEOVERS = "takeovers under load"
WAITED = "commits that waited for a standby"
BACK = 10.0
QUEUES = ("default", "other")
"""Each must be back."""
STOP = {"postgres": signal.SIGINT, "mariadb": signal.SIGTERM, "valkey": signal.SIGTERM}
"""What ends a server in good order while it has clients."""
TOLD_EVERYSEC = 2.0
"""Seconds before a crash of which docs/howto/valkey.md promises nothing."""


@scenario(24, 39, bites=(RESTARTS,), bounds=Bounds(back=BACK), stores=SERVED, seconds=15.0, queues=QUEUES)
def restart_store(run: Run) -> None:
    """Restart the server in good order, again and again."""
    for _ in run.beats(2.0, 4.0):
        _restart(run, STOP[run.ground.kind])


@scenario(25, 39, bites=(RESTARTS,), bounds=Bounds(back=BACK), stores=SERVED, seconds=15.0, queues=QUEUES)
def kill_store(run: Run) -> None:
    """Kill -9 a server that keeps what it has acknowledged, again and again."""
    for _ in run.beats(2.0, 4.0):
        _restart(run, signal.SIGKILL)


@scenario(39, bites=(TAKEOVERS, WAITED), bounds=Bounds(back=15.0), stores=frozenset({"postgres"}), ground=PairGround,
          seconds=30.0)  # fmt: skip
def fail_over(run: Run) -> None:
    """Kill -9 a primary while commits wait for its standby, and promote that, again and again."""
    assert isinstance(run.ground, PairGround)
    for _ in run.beats(2.0, 4.0):
        run.occupy(4, 1.0)
        with run.outage("takeover", after=2.0, undoes=True):
            run.ground.hold_back()
            run.pass_time(run.chance.uniform(0.0, 0.5))
            run.bit(WAITED, run.ground.waiting())
            run.bit(TAKEOVERS, run.ledger.running() > 0)
            run.ground.kill()
            run.pass_time(run.chance.uniform(0.0, 2.0))
            run.ground.promote()
        run.until(lambda: run.waits(run.healed[-1]), "what is accepted after a takeover runs")
        run.ground.attach()


@scenario(25, bites=(RESTARTS,), bounds=Bounds(back=BACK, loses=True), stores=frozenset({"valkey"}), seconds=12.0)
def kill_valkey_everysec(run: Run) -> None:
    """Kill -9 a Valkey that writes to its disk every second: nothing is lost that is older than told."""
    kills = _kill_valkey(run, "--appendfsync", "everysec")
    lost = _lost_before(run, kills, TOLD_EVERYSEC)
    keys = [event.key for event in lost]
    run.expect(not keys, f"lost although acknowledged {TOLD_EVERYSEC:g} s before the kill: {keys}")


@scenario(
    25, bites=(RESTARTS, "tasks lost, as told"), bounds=Bounds(back=BACK, loses=True, quiet=90.0),
    stores=frozenset({"valkey"}), seconds=6.0, rate=400.0, options=("--processes", "1", "--concurrency", "2"),
)  # fmt: skip
def kill_valkey_without_disk(run: Run) -> None:
    """Kill -9 a Valkey that keeps nothing: all is lost, and work goes on with what comes next."""
    kills = _kill_valkey(run, "--appendonly", "no")
    after = run.ended() + run.scenario.rate / 10
    run.until(lambda: run.ended() > after, "new tasks run")
    lost = _lost_before(run, kills, 0.0)
    since = [event.key for event in lost if event.at > run.healed[-1]]
    run.bit("tasks lost, as told", len(lost) - len(since))
    run.expect(not since, f"lost although the server was not killed afterwards: {since}")


@scenario(
    31, bites=("enqueues that failed or took a second",), bounds=Bounds(back=20.0), stores=SERVED, seconds=2.5 * LEASE
)
def freeze_store(run: Run) -> None:
    """SIGSTOP the server for two and a half leases: its sockets stay open."""
    server, [page] = _server(run), run.pages.values()
    began = time.monotonic() - 1.0  # a call may be under way, and the next waits for it
    with run.outage("frozen store"):
        server.freeze()
        run.pass_time(run.seconds)
        run.expect(page.status("/health") == 503, "health does not say no to a frozen store")  # noqa: PLR2004
        server.thaw()
    run.pass_time(1.0)
    run.bit("enqueues that failed or took a second", queues.held_up(run.ledger.events(), began, time.monotonic()))


@scenario(38, bites=("connections killed",), bounds=Bounds(back=5.0), stores=SERVED,
          options=("--processes", "2", "--concurrency", "8", "--scheduler"), settings=SCHEDULE)  # fmt: skip
def kill_all_connections(run: Run) -> None:
    """Let the server end all connections, of tasks, leases, listeners and the scheduler, again and again."""
    for _ in run.beats(0.3, 1.5):
        with run.outage("connections killed", after=1.0):
            run.bit("connections killed", kill_connections(run.ground))
    run.until(run.is_back, "work is back")  # while it is fed
    judge_slots(run)


@scenario(40, bites=("connections held", "connections killed"), bounds=Bounds(back=15.0), stores=SERVED, seconds=10.0)
def no_connection_left(run: Run) -> None:
    """Take all connections that the server has, and end those of the workers."""
    for _ in run.beats(1.0, 2.0):
        with run.outage("no connections", after=5.0), held_connections(run.ground) as held:
            run.bit("connections held", held.connections)
            run.bit("connections killed", held.killed)
            run.pass_time(run.chance.uniform(1.0, 3.0))


def _server(run: Run) -> Served:
    assert isinstance(run.ground, Served)
    return run.ground


def _restart(run: Run, number: signal.Signals) -> None:
    if not run.ledger.running():
        run.occupy(4, 1.0)
    before = run.ended()
    with run.outage("restart", after=2.0, undoes=number == signal.SIGKILL):
        run.bit(RESTARTS, run.ledger.running() > 0)
        _server(run).end(number)
        run.pass_time(run.chance.uniform(0.0, 1.0))
        _server(run).start()
    run.until(lambda: run.ended() > before, "tasks run after a restart")


def _kill_valkey(run: Run, *options: str) -> list[float]:
    """Restart the server with other options, and kill it while tasks wait; return when."""
    assert isinstance(run.ground, ValkeyGround)
    with run.outage("restart", after=2.0, undoes=True):  # it forgets all that it had not written
        run.ground.end(signal.SIGTERM)
        run.ground.server.options = options
        run.ground.start()
    kills = []
    for _ in run.beats(2.0, 3.0):
        _restart(run, signal.SIGKILL)
        kills.append(run.faults[-1].began)
    return kills


def _lost_before(run: Run, kills: list[float], margin: float) -> list[Event]:
    """Return what was acknowledged and has not run, but what was younger than the margin when the server was killed."""
    run.pass_time(2.0)
    run.stop_feeding()
    run.until(run.is_quiet, "all that is left has ended", run.scenario.bounds.quiet)
    events = run.ledger.events()
    done = {event.key for event in events if event.kind == "end"}
    lost = [event for event in events if event.kind == "accept" and event.key not in done]
    return [event for event in lost if not any(kill - margin <= event.at <= kill for kill in kills)]
