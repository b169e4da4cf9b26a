"""Actors that do what the contract of a child is about; a process imports this module."""

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

from vtasks_supervisor.actor import Actor

SET_UP: list[int] = []


def fail_to_set_up():
    raise ValueError("no set-up")


def set_up():
    SET_UP.append(os.getpid())


class Echo(Actor):
    """Says what it is told, and how it fares."""

    def __init__(self):
        self.handled = 0
        self.was_set_up = os.getpid() in SET_UP

    async def on_start(self, context):
        self.context = context

    async def handle(self, message):
        self.handled += 1
        self.context.say(message)

    async def on_pause(self):
        self.context.say("paused")

    async def on_resume(self):
        self.context.say("resumed")

    async def on_stop(self, timeout, hurry):
        self.context.say(("stopping", timeout))
        for _ in range(100):
            await asyncio.sleep(0)
        self.context.say("stopped")

    def vitals(self):
        return {"work": self.handled}


class Facts(Echo):
    """Says a fact about its surroundings."""

    async def handle(self, message):
        self.context.say(getattr(self, message)())

    def identity(self):
        return self.context.name, self.context.incarnation

    def environment(self):
        return dict(os.environ)

    def title(self):
        from setproctitle import getproctitle

        return getproctitle()

    def setup(self):
        return self.was_set_up

    def loop(self):
        return type(asyncio.get_running_loop()).__module__

    def signals_of_a_program(self):
        show = "print(open('/proc/self/status').read())"
        lines = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True).stdout
        facts = dict(line.partition(":")[::2] for line in lines.splitlines())
        return {fact: int(facts[fact], 16) for fact in ("SigBlk", "SigIgn")}

    def descriptors(self):
        return len(list(Path("/proc/self/fd").iterdir()))


class Reluctant(Echo):
    """Finishes only when it is hurried."""

    async def on_stop(self, timeout, hurry):
        self.context.say(("stopping", timeout))
        await hurry.wait()
        self.context.say("hurried")


class NeverReady(Echo):
    async def on_start(self, context):
        await super().on_start(context)
        context.say("starting")
        await asyncio.Event().wait()


class Failing(Echo):
    """Fails where it is told to."""

    def __init__(self, place):
        super().__init__()
        self.place = place
        self.fail_at("make")

    def fail_at(self, place):
        if place == self.place:
            raise ValueError(f"no {place}")

    async def on_start(self, context):
        self.fail_at("on_start")
        await super().on_start(context)

    async def handle(self, message):
        self.fail_at("handle")

    async def on_pause(self):
        self.fail_at("on_pause")

    async def on_stop(self, timeout, hurry):
        self.fail_at("on_stop")

    def vitals(self):
        self.fail_at("vitals")
        return {}


class Leaving(Echo):
    """Leaves in the way it is told."""

    async def handle(self, message):
        self.context.say(message)
        if message == "finish":
            self.context.finish()
        elif message == "retire":
            self.context.retire("tired")
        elif message == "sys.exit":
            sys.exit(3)
        elif message == "os._exit":
            os._exit(0)
        else:
            os.kill(os.getpid(), message)
            await asyncio.Event().wait()


class Standing(Echo):
    """Stands still in a function whose name the stacks must show."""

    async def handle(self, message):
        if message == "blocked":
            self.stand_blocked()
        else:
            await self.stand_waiting()

    def stand_blocked(self):
        self.context.say("standing")
        threading.Event().wait()

    async def stand_waiting(self):
        self.context.say("standing")
        await asyncio.Event().wait()


class Noting(Echo):
    """Notes in its recorder what it is told; wipes what it is told to forget."""

    async def handle(self, message):
        entry, text = message
        if text is None:
            self.context.recorder.wipe(entry)
        else:
            self.context.recorder.note(entry, text)
        self.context.say("noted")


class Inexplicable:
    """A message that cannot be read where it arrives."""

    def __reduce__(self):
        return _refuse, (os.getpid(),)


def _refuse(writer):
    if os.getpid() != writer:
        raise ImportError("no such class here")
    return "explained"


class Riddling(Echo):
    async def handle(self, message):
        self.context.say(Inexplicable())
        self.context.say(message)
