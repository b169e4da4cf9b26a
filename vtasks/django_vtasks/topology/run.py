"""A plan as the foreground job of a process."""

import asyncio
import atexit
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from django.apps import apps
from django.utils import autoreload
from setproctitle import setproctitle

from django_vtasks.topology.plan import Plan
from django_vtasks.topology.tree import Tree, no_handlers
from django_vtasks.worker.registry import Registry
from vtasks_supervisor import Launcher, TreeFailed
from vtasks_supervisor.launcher import LoopFactory
from vtasks_supervisor.signals import handled

PRELOAD = "django_vtasks.topology.preload"
RELOAD_TIMEOUT = 2.0
"""Seconds that a worker has to end before new code starts; its tasks are given back."""


def in_foreground(plan: Plan, started: Callable[[], object], *, reload: bool = False) -> TreeFailed | None:
    """Run a plan until a signal or its end; return why it gave up, if it did.

    ``started`` is called on a thread when the store has answered.
    """
    setproctitle("vtasks: supervisor")
    # The modules that a fork server has imported would be the old ones after a change.
    launcher = Launcher([PRELOAD], method="spawn" if reload else None, loop_factory=_loop_factory())
    launcher.copy_this_process()
    try:
        asyncio.run(_run(plan, launcher, started, reload=reload))
    except TreeFailed as failure:
        return failure
    return None


async def _run(plan: Plan, launcher: Launcher, started: Callable[[], object], *, reload: bool) -> None:
    tree = Tree(plan, launcher=launcher)
    if reload:
        _stop_at_exit(tree)
    introducing: list[asyncio.Future[object]] = []

    def introduce() -> None:
        introducing.append(asyncio.ensure_future(asyncio.to_thread(started)))

    await tree.run(no_handlers if reload else handled, introduce)


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
