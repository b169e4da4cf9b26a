"""The tree of one worker: a supervisor, its actors, the node's lease, and what the outside sees of them."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterator
from functools import partial

from django_vtasks.brokers.base import Coordinator
from django_vtasks.errors import ConfigError
from django_vtasks.metrics import exposition
from django_vtasks.topology.burst import BurstWatch
from django_vtasks.topology.health import SCHEDULER as SCHEDULER_NAME
from django_vtasks.topology.health import Health
from django_vtasks.topology.metering import metering
from django_vtasks.topology.notify import Notifier
from django_vtasks.topology.outside import Outside
from django_vtasks.topology.plan import Plan, QueuePlan, backend_with_broker, slot_of, suspects_of
from django_vtasks.topology.queue_actor import BrokenModules, Duty, Idle, QueueActor
from django_vtasks.topology.recovery import Recovery
from django_vtasks.topology.report import report
from django_vtasks.topology.scheduler_actor import SchedulerActor, SchedulerDuty
from django_vtasks.topology.setup import set_up
from django_vtasks.worker.flight import ID_WIDTH
from django_vtasks.worker.lease import LeaseKeeper
from django_vtasks.worker.outage import Outage
from vtasks_supervisor import Backoff, ChildSpec, Event, Launcher, Place, Restart, Supervisor
from vtasks_supervisor.errors import TreeFailed
from vtasks_supervisor.events import Cause, ChildBeat, ChildExited, ChildSaid, TreeReady, TreeStopping
from vtasks_supervisor.spec import Notes
from vtasks_supervisor.threads import on_own_thread

logger = logging.getLogger(__name__)

BATCHERS, QUEUES, SCHEDULER = range(3)
"""Stages: who enqueues to others starts after them, and stops before."""
SUSPECTS_BACKOFF = Backoff(first=0.05, longest=1.0)
"""An actor of suspects is there to die; the innocent among them shall not wait for long."""
LOOK_EVERY = 1 / 3
"""The part of the lease between two looks at the queues."""
RECLAIM_TIMEOUT = 1.0
"""Seconds for handing back the tasks of actors that died at the very end."""

type Handlers = Callable[[Supervisor], contextlib.AbstractContextManager[None]]


class Tree:
    """Runs a plan until stop() or the end of a burst; ``place`` is where its actors live."""

    def __init__(self, plan: Plan, *, place: Place = Place.PROCESS, launcher: Launcher | None = None) -> None:
        self._plan = plan
        self._place = place
        backend = backend_with_broker(plan.backend)
        self._broker = backend.broker
        self._coordinator: Coordinator = self._broker  # type: ignore[assignment]
        self._burst = BurstWatch()
        self._launcher = launcher
        own_processes = place is Place.PROCESS
        self._tells_counts = own_processes and plan.metrics_port is not None and exposition.is_available()
        self._supervisor = Supervisor(
            [
                *(
                    self._child(queue, slot_of(queue, number), suspects=False)
                    for queue in plan.queues
                    for number in range(1, queue.processes + 1)
                ),
                *([self._scheduler_child()] if plan.scheduler else []),
            ],
            hook=self._on_event,
            launcher=launcher,
            reaps=place is Place.PROCESS,
        )
        self._health = Health(plan, self._supervisor)
        self._metering = metering(plan, self._supervisor, backend, own_processes=own_processes)
        self._recovery: Recovery | None = None
        self._leased = asyncio.Event()
        self._time_to_look = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None
        self._report: str | None = None
        self._paused: Collection[str] = ()

    async def run(self, handlers: Handlers, started: Callable[[], object] = lambda: None) -> None:
        """Run until stopped; raise TreeFailed when no actor can do its work.

        ``started`` is called on the loop when the store has answered and the actors begin to start.
        """
        if self._launcher is not None:
            self._launcher.warm_up()
        recovery = self._recovery = Recovery(self._coordinator, self._plan.node, self._start_suspects)
        lease = LeaseKeeper(
            self._coordinator,
            self._plan.node,
            self._plan.lease,
            self._note_lease,
            lambda: recovery.on_loop(self._time_to_look.set),
            report=lambda: self._report,
        )
        # A guest in somebody else's process does not tell systemd that the process is ready, or well.
        notifier = Notifier.from_environ() if self._place is Place.PROCESS else Notifier()
        meter = self._metering
        page = None if meter is None else meter.page
        with (
            handlers(self._supervisor),
            Outside(self._plan, self._health, notifier, page) as outside,
            meter.shown(is_served=outside.metrics_port is not None) if meter else contextlib.nullcontext(),
        ):
            self._outside = outside
            try:
                await self._inspect()
                lease.start()
                await self._supervisor.until_stopping(self._leased.wait())
                started()
                await self._run_tree()
            finally:
                await self._recovery.finish(RECLAIM_TIMEOUT)
                await on_own_thread(lease.stop, "vtasks-leave")
                await self._broker.aclose()

    def stop(self, *, at_once: bool = False) -> None:
        """Drain, or with ``at_once`` give everything back now."""
        self._supervisor.stop(at_once=at_once)

    async def _run_tree(self) -> None:
        duties = [asyncio.create_task(self._outside.keep()), asyncio.create_task(self._look_around())]
        try:
            await self._supervisor.run()
        finally:
            for duty in duties:
                duty.cancel()

    # Children ------------------------------------------------------------------------------------------------

    def _child(self, queue: QueuePlan, slot: str, *, suspects: bool) -> ChildSpec:
        process = self._place is Place.PROCESS
        duty = Duty(
            backend=self._plan.backend,
            node=self._plan.node,
            slot=slot,
            queue=queue.name,
            concurrency=queue.concurrency,
            batch=queue.batch,
            most_running=queue.most_running,
            hook=self._plan.hook,
            burst=self._plan.burst,
            suspects=suspects,
            own_process=process,
            log_level=self._plan.log_level,
            tells_counts=self._tells_counts,
        )
        return ChildSpec(
            name=slot,
            make=partial(QueueActor, duty),
            place=self._place,
            setup=set_up if process else None,
            title=f"vtasks: {slot}",
            stage=_stage(queue),
            restart=Restart.TRANSIENT if suspects else Restart.PERMANENT,
            backoff=SUSPECTS_BACKOFF if suspects else None,
            stop_timeout=self._plan.shutdown_timeout,
            notes=Notes(queue.most_running, ID_WIDTH) if process else None,
        )

    def _scheduler_child(self) -> ChildSpec:
        process = self._place is Place.PROCESS
        duty = SchedulerDuty(
            backend=self._plan.backend,
            node=self._plan.node,
            lease=self._plan.lease,
            own_process=process,
            log_level=self._plan.log_level,
            tells_counts=self._tells_counts,
        )
        return ChildSpec(
            name=SCHEDULER_NAME,
            make=partial(SchedulerActor, duty),
            place=self._place,
            setup=set_up if process else None,
            title="vtasks: scheduler",
            stage=SCHEDULER,
            stop_timeout=self._plan.shutdown_timeout,
        )

    def _start_suspects(self, queues: Collection[str]) -> None:
        """Start an actor for the suspects of each queue that this worker serves, unless it would get none."""
        wanted = set(queues).difference(self._paused)
        for queue in self._plan.queues:
            if queue.name in wanted and self._supervisor.add(
                self._child(queue, suspects_of(queue.name), suspects=True)
            ):
                logger.info("Suspect tasks of queue %s run apart", queue.name)

    # Events --------------------------------------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        assert self._recovery is not None
        match event:
            case ChildExited():
                self._burst.forget(event.name)
                # What an actor still holds that has ended in order goes back, unharmed, with the node's lease.
                if not (self._supervisor.is_stopping and event.exit.cause is Cause.PLANNED):
                    self._recovery.ended(event.name, event.incarnation, event.exit)
            case ChildSaid(message=Idle() as idle):
                self._burst.note(event.name, idle)
                self._end_burst()
            case ChildSaid(message=BrokenModules(errors=errors)):
                self._health.broken_modules = dict(errors)
            case TreeReady():
                self._outside.ready()
            case TreeStopping():
                logger.info("Worker %s drains", self._plan.node)
                self._outside.stopping(self._plan.shutdown_timeout)
        self._note(event)  # last: no trouble with telling may keep the tasks of a dead actor from coming back

    def _note(self, event: Event) -> None:
        """Let all know of an event who tell of the tree."""
        self._health.note(event)
        if self._metering is not None:
            self._metering.note(event)
        if not isinstance(event, ChildBeat | ChildSaid):
            asyncio.get_running_loop().call_soon(self._write_report)  # when the place has taken it in

    def _write_report(self) -> None:
        """Have ready what the next renewal of the lease says of this worker."""
        draining = self._supervisor.is_stopping
        self._report = report(self._plan, self._supervisor.states, draining=draining)

    def _end_burst(self) -> None:
        """Stop when nothing is left to do, here or among the suspects."""
        if self._plan.burst and self._burst.is_over([child.name for child in self._supervisor.states]):
            self._ending = self._ending or asyncio.create_task(self._end_burst_without_suspects())

    async def _end_burst_without_suspects(self) -> None:
        assert self._recovery is not None
        try:
            settled = await self._recovery.wait(RECLAIM_TIMEOUT)
            suspects = await asyncio.to_thread(self._coordinator.suspects)
            self._paused = await asyncio.to_thread(self._broker.paused)
        except Exception as error:  # noqa: BLE001 - whatever the store raises, the actors will ask again
            logger.warning("Cannot tell whether the burst is over: %s", error)
            return
        finally:
            self._ending = None
        if ours := suspects.keys() & set(self._plan.queue_names) - set(self._paused):
            self._start_suspects(ours)
        elif settled and self._burst.is_over([child.name for child in self._supervisor.states]):
            self._supervisor.stop()

    async def _inspect(self) -> None:
        """Ask the store whether it can keep tasks, again and again until it answers or the worker shall stop."""
        inspecting = asyncio.create_task(self._until_inspected())
        await self._supervisor.until_stopping(asyncio.wait({inspecting}))
        if not inspecting.done():
            inspecting.cancel()
            return
        for warning in inspecting.result():
            logger.warning(warning)

    async def _until_inspected(self) -> list[str]:
        outage = Outage("reach the store of tasks")
        while True:
            try:
                warnings = await asyncio.to_thread(self._coordinator.inspect)
            except ConfigError as error:
                raise TreeFailed(str(error)) from error
            except Exception as error:  # noqa: BLE001 - whatever the store raises, it may come back
                await asyncio.sleep(outage.failed(error))
            else:
                outage.over()
                return warnings

    # The store -----------------------------------------------------------------------------------------------

    def _note_lease(self) -> None:
        """Take in, on the lease's thread, that the store has renewed the lease."""
        assert self._recovery is not None
        self._health.renewed_at = time.monotonic()
        if not self._leased.is_set():
            self._recovery.on_loop(self._leased.set)

    async def _look_around(self) -> None:
        """Look at the queues regularly, and when tasks were taken back: beside the lease, which nothing may hold up."""
        outage = Outage("look at the queues")
        while True:
            self._time_to_look.clear()
            try:
                await asyncio.to_thread(self._look)
            except Exception as error:  # noqa: BLE001 - whatever the store raises, the next look may succeed
                await asyncio.sleep(outage.failed(error))
                continue
            outage.over()
            self._write_report()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY * self._plan.lease):
                    await self._time_to_look.wait()

    def _look(self) -> None:
        assert self._recovery is not None
        # When nobody watches and there is nothing to start, nobody needs to know.
        needs_to_know = self._outside.is_watched or self._health.suspects
        self._paused = self._broker.paused() if needs_to_know else ()
        self._health.note_paused(self._paused)
        self._health.suspects = self._recovery.look_for_suspects()
        if self._outside.is_watched:
            self._health.depths = self._broker.glance(self._plan.queue_names)


@contextlib.contextmanager
def no_handlers(supervisor: Supervisor) -> Iterator[None]:
    """Leave signals to somebody else."""
    yield


def _stage(queue: QueuePlan) -> int:
    return QUEUES if queue.batch is None else BATCHERS
