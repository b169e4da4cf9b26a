"""A plan as the foreground job of a process."""

import asyncio
import atexit
import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from django.apps import apps
from django.utils import autoreload
from setproctitle import setproctitle

from django_vtasks.topology.plan import Plan
from django_vtasks.topology.tree import Handlers, Tree, no_handlers
from django_vtasks.worker.registry import Registry
from vtasks_supervisor import Launcher, Supervisor, TreeFailed
from vtasks_supervisor.launcher import LoopFactory
from vtasks_supervisor.signals import handled

PRELOAD = "django_vtasks.topology.preload"
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
RELOAD_TIMEOUT = 2.0
"""Seconds that a worker has to end before new code starts; its tasks are given back."""


def in_foreground(
    plan: Plan, started: Callable[[], object], *, reload: bool = False, owns_process: bool = False
) -> TreeFailed | None:
    """Run a plan until a signal or its end; return why it gave up, if it did.

    ``started`` is called on a thread when the store has answered. A process that is the worker's own ends right after,
    and does not wait for threads that wait for the store.
    """
    setproctitle("vtasks: supervisor")
    early = [] if reload else _note_early_signals()
    # The modules that a fork server has imported would be the old ones after a change.
    launcher = Launcher([PRELOAD], method="spawn" if reload else None, loop_factory=_loop_factory())
    launcher.copy_this_process()
    runner = asyncio.Runner()
    try:
        runner.run(_run(plan, launcher, started, no_handlers if reload else partial(_handled, early, owns_process)))
    except TreeFailed as failure:
        return failure
    finally:
        if not owns_process:
            runner.close()
    return None


def _note_early_signals() -> list[int]:
    """Return a list that gets the signals to stop which arrive before there is a supervisor to obey them.

    Their default would end the process without an exit code of 0, or do nothing at all where it is a container's first.
    """
    early: list[int] = []

    def note(received: int, frame: object) -> None:
        early.append(received)

    if threading.current_thread() is threading.main_thread():
        for number in STOPS:
            signal.signal(number, note)
    return early


@contextlib.contextmanager
def _handled(early: list[int], owns_process: bool, supervisor: Supervisor) -> Iterator[None]:  # noqa: FBT001 - partial
    """Obey signals; those that come to a worker that has just ended change nothing, its exit code least of all."""
    with contextlib.ExitStack() as stack:
        if owns_process:
            stack.callback(_ignore_all)
        stack.enter_context(handled(supervisor))
        if early:
            supervisor.stop()
        yield


def _ignore_all() -> None:
    """Ignore what stops for good: at its own end, Python gives its handlers back to the system, which would kill."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)


async def _run(plan: Plan, launcher: Launcher, started: Callable[[], object], handlers: Handlers) -> None:
    tree = Tree(plan, launcher=launcher)
    if handlers is no_handlers:
        _stop_at_exit(tree)
    introducing: list[asyncio.Future[object]] = []

    def introduce() -> None:
        introducing.append(asyncio.ensure_future(asyncio.to_thread(started)))

    await tree.run(handlers, introduce)


def reloading(work: Callable[[], object]) -> None:
    """Call ``work`` in a thread of a process that starts anew whenever the code changes."""

    def begin() -> None:
        _import_tasks()
        work()

    autoreload.autoreload_started.connect(_watch_tasks)
    autoreload.run_with_reloader(begin)


def _import_tasks() -> None:
    """Import here what else only the actors do: the reloader looks at the files of this process's modules."""
    logging.disable()  # an actor tells what cannot be imported
    try:
        Registry().load()
    finally:
        logging.disable(logging.NOTSET)


def _watch_tasks(sender: autoreload.BaseReloader, **kwargs: object) -> None:
    """Let the reloader look also at tasks modules that cannot be imported yet, or are not there."""
    for app in apps.get_app_configs():
        sender.watch_dir(Path(app.path), "tasks.py")
        sender.watch_dir(Path(app.path), "tasks/**/*.py")


def _stop_at_exit(tree: Tree) -> None:
    """Stop the tree when the reloader ends the process: from the main thread, while the loop is in another."""
    loop = asyncio.get_running_loop()
    ended = threading.Event()
    working = asyncio.current_task()
    assert working is not None
    working.add_done_callback(lambda _: ended.set())

    def stop() -> None:
        if not ended.is_set():
            loop.call_soon_threadsafe(lambda: tree.stop(at_once=True))
            ended.wait(RELOAD_TIMEOUT)

    atexit.register(stop)


def _loop_factory() -> LoopFactory | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: LoopFactory = uvloop.new_event_loop
    return factory
