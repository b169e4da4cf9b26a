"""What tasks do, the same for all contenders: a task of theirs is one call of these."""

import asyncio
import time

from recorder import record

SLEEP = 0.01
HOLD = 60.0


async def noop(number):
    record(number)


def noop_sync(number):
    record(number)


async def sleep(number):
    record(number)
    await asyncio.sleep(SLEEP)


def sleep_sync(number):
    record(number)
    time.sleep(SLEEP)


async def payload(number, text):
    record(number)


def payload_sync(number, text):
    record(number)


async def hold(number):
    record(number)
    await asyncio.sleep(HOLD)


def hold_sync(number):
    record(number)
    time.sleep(HOLD)
