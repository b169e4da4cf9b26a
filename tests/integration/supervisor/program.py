"""A program that is a supervisor: its tree comes as JSON, it tells each event as a line, and obeys lines."""

import asyncio
import json
import logging
import os
import sys
from dataclasses import fields
from enum import Enum

from tests.integration.supervisor import actors
from vtasks_supervisor import Backoff, ChildSpec, Launcher, RestartBudget, Supervisor, TreeFailed
from vtasks_supervisor import launcher as launching
from vtasks_supervisor.policy import Escalation, Policy
from vtasks_supervisor.signals import handled

LAUNCH_TIMEOUT = "TEST_LAUNCH_TIMEOUT"
"""The variable with the seconds that a start may take, where a test waits for their end."""


def tell(event):
    facts = {field.name: plain(getattr(event, field.name)) for field in fields(event)}
    write(event=type(event).__name__, **facts)


def write(**line):
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def plain(value):
    if isinstance(value, Enum):
        return value.name
    if hasattr(value, "cause"):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value) if field.name != "notes"}
    return value


def obey(supervisor):
    for line in os.read(sys.stdin.fileno(), 65536).splitlines():
        order, *arguments = json.loads(line)
        getattr(supervisor, order)(*arguments)


def policy(*, patient):
    """Return the policy of a tree in which nothing is held against anybody, or the usual one."""
    if not patient:
        return Policy()
    return Policy(Backoff(0.001, 0.001), RestartBudget(limit=1000), Escalation(starts=1000))


async def main(orders, launcher):
    specs = [
        ChildSpec(
            make=getattr(actors, spec.pop("make", "Worker")),
            setup=actors.wait_for_go if spec.pop("waits", False) else None,
            **spec,
        )
        for spec in orders["specs"]
    ]
    supervisor = Supervisor(
        specs,
        hook=tell,
        launcher=launcher,
        policy=policy(patient=orders["patient"]),
        reaps=True,
    )
    asyncio.get_running_loop().add_reader(sys.stdin, obey, supervisor)
    with handled(supervisor):
        write(event="Running")
        await supervisor.run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    orders = json.loads(sys.argv[1])
    launching.LAUNCH_TIMEOUT = float(os.environ.get(LAUNCH_TIMEOUT, launching.LAUNCH_TIMEOUT))
    copied = orders["method"] == "copy"
    launcher = Launcher(orders["preload"], method="forkserver" if copied else orders["method"])
    if copied:
        launcher.copy_this_process()
    try:
        asyncio.run(main(orders, launcher))
    except TreeFailed as error:
        sys.exit(str(error))
