"""What others put into the store: bytes that are no task, bombs, names of anything."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from load_tests.chaos import neighbours, processes
from load_tests.chaos.run import Run
from load_tests.chaos.scenario import Bounds, scenario

UNREAD = "payloads that nobody can read"
BOMBED = "bombs of 4 GB"
MB = 1_000_000
SIZES = (1, 17, 16, 600)
"""Of the first; the largest takes long to make, and only once."""
BOMB = 4_000
"""MB in the largest of bombs; who unpacked it would be seen to."""
LEAN = 200.0
"""MB that no process of a worker may ever have in memory, whatever it is given."""


@scenario(52, 53, bites=(UNREAD, BOMBED), environment={"VTASKS_QUEUES": "default,bad"})
def corrupt_payloads(run: Run) -> None:
    """Replace payloads by random and truncated bytes, and by bombs of up to 4 GB: each fails with the reason, alone.

    No process of the worker becomes large of them, and another queue keeps its rate.
    """
    from load_tests.chaos import tasks
    from tests.contract.unreadable import UNREADABLE, bomb

    large = bomb(BOMB)
    ways: list[Callable[[], bytes]] = [
        lambda: large,
        lambda: run.chance.randbytes(99),
        *(partial(bytes, way) for way in UNREADABLE.values()),
    ]
    began = time.monotonic()
    for number, _ in enumerate(run.beats(0.1, 0.3)):
        # One that nobody takes before it is spoilt.
        run.broker.pause("bad")
        task: Any = tasks.work.using(queue_name="bad")
        spoilt = task.enqueue(f"spoilt{number}", 0.0).id
        run.store.corrupt(spoilt, ways[number % len(ways)]())
        run.broker.resume("bad")
        run.doomed.add(spoilt)
        run.bit(UNREAD)
        run.bit(BOMBED, number % len(ways) == 0)
    neighbours.judge_rate(run, "default", began)
    run.until(run.is_doom_done, "all that cannot be read is in the failed list")
    reasons = {entry.id: entry.failure.exception for entry in run.broker.failed(10_000)}
    wrong = {reasons[task_id] for task_id in run.doomed & reasons.keys() if ".errors.Payload" not in reasons[task_id]}
    run.expect(not wrong, f"other reasons than the payload: {wrong}")
    run.expect(not run.said("ended: "), "an actor ended of a payload")
    # No actor has ended, so that those that there are have had all that there was.
    largest = processes.peak(process.pid for process in run.workers[0].processes())
    run.facts["MB of the largest process"] = round(largest, 1)
    run.expect(0 < largest < LEAN, f"a process of the worker has had {largest:.0f} MB in memory")


@scenario(56, 57, bites=("names that are no tasks",))
def unknown_names(run: Run) -> None:
    """Push names of no tasks, of removed ones, and of anything that can be imported: none runs, each fails for good."""
    from tests.integration.projects import call

    proof = run.directory / "proof"
    names = ("os.system", "builtins.exec", "load_tests.chaos.tasks.removed", "gone.app.tasks.send", "subprocess.call")
    for number, _ in enumerate(run.beats(0.1, 0.3)):
        envelope = call(names[number % len(names)], f"touch {proof}")
        run.broker.push([envelope])
        run.doomed.add(envelope.id)
        run.bit("names that are no tasks")
    run.until(run.is_doom_done, "all unknown names are in the failed list")
    run.expect(not proof.exists(), "a path from a payload was run")
    reasons = {entry.failure.exception for entry in run.broker.failed(10_000) if entry.id in run.doomed}
    run.expect(reasons == {"django_vtasks.errors.UnknownTask"}, f"reasons: {reasons}")


@scenario(54, bites=("calls refused as too large", "megabytes that ran"), bounds=Bounds(answer=None), seconds=20.0,
          rate=50.0)  # fmt: skip
def large_arguments(run: Run) -> None:
    """Enqueue arguments of 1 and 16 MB, which run, and of 17 and 600 MB, which the caller is refused with a reason."""
    from django_vtasks.errors import PayloadTooLarge
    from load_tests.chaos import tasks

    task: Any = tasks.work
    for number, _ in enumerate(run.beats(0.3, 0.8)):
        size = SIZES[number] if number < len(SIZES) else 1
        ballast = run.chance.randbytes(min(size, 20) * MB // 2).hex() * max(
            1, size // 20
        )  # what is so large is not read
        began = time.monotonic()
        try:
            run.enqueue(task, f"large{number}", 0.0, ballast)
        except PayloadTooLarge:
            run.bit("calls refused as too large")
            run.expect(size > 16, f"{size} MB were refused")  # noqa: PLR2004 - wire.MAX_BYTES
        else:
            run.bit("megabytes that ran", size)
            run.expect(size <= 16, f"{size} MB were not refused")  # noqa: PLR2004 - wire.MAX_BYTES
        took = time.monotonic() - began
        run.facts[f"{size} MB s"] = max(round(took, 2), run.facts.get(f"{size} MB s", 0.0))
        run.expect(took < 10.0, f"an enqueue of {size} MB took {took:.1f} s")  # noqa: PLR2004
    done = sum(event.kind == "end" and event.key.startswith("large") for event in run.ledger.events())
    run.facts["large tasks that ran"] = done
