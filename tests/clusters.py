"""A Valkey cluster in the hands of a test: who has a prefix's slot, and how to give it to another node."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

import psutil
import valkey
from valkey.crc import key_slot

from tests import databases, servers
from tests.integration.probes import eventually

type Ask[T] = Callable[[valkey.Valkey], T]


class _Node(NamedTuple):
    """A line of the table that nodes have of nodes."""

    id: str
    url: str
    primary: str
    slots: list[tuple[int, int]]

    @classmethod
    def parse(cls, line: str) -> Self:
        id_, place, _flags, primary, _pinged, _ponged, _epoch, _link, *slots = line.split()
        ranges = [slot.partition("-") for slot in slots if not slot.startswith("[")]
        url = f"valkey://{place.partition('@')[0]}"
        return cls(id_, url, primary, [(int(first), int(last or first)) for first, _, last in ranges])


class Cluster:
    """The nodes at ``urls``, seen by who is interested in the keys of ``prefix``."""

    def __init__(self, urls: list[str], prefix: str) -> None:
        self.urls = urls
        self.slot = key_slot(prefix.encode())
        self._prefix = prefix
        self._gone: set[str] = set()
        self.settle()

    @property
    def primary(self) -> str:
        """The URL of the node that has the slot."""
        return self._owners(self._alive()[0])[0]

    @property
    def replica(self) -> str:
        return self._owners(self._alive()[0])[1]

    @property
    def stranger(self) -> str:
        """The URL of a primary that does not have the slot."""
        return next(url for url in self._alive() if url != self.primary and _role(url) == "master")

    def settle(self) -> None:
        eventually(self._is_whole, "every node knows all others, and each replica has what its primary has")

    def empty(self) -> None:
        ask(self.primary, lambda node: node.flushall())

    def replicate(self) -> None:
        """Let the replica have all that the primary has: it follows a second after it says that it does."""

        def write_and_wait(node: valkey.Valkey) -> bool:
            node.set(f"{self._prefix}:test", 1, px=1)
            return bool(node.wait(1, 10_000))

        assert ask(self.primary, write_and_wait)

    def _is_whole(self) -> bool:
        alive = self._alive()
        return all(map(self._is_content, alive)) and len({tuple(self._owners(url)) for url in alive}) == 1

    def keys(self, url: str) -> set[bytes]:
        return set(ask(url, lambda node: node.keys(f"{self._prefix}:*")))

    def clients(self, url: str) -> list[str]:
        """Return the names of the connections that this package has to a node."""
        names = [client["name"] for client in ask(url, lambda node: node.client_list())]
        return [name for name in names if name.startswith("vtasks-")]

    # What happens to clusters --------------------------------------------------------------------------------

    def kill(self, url: str) -> None:
        """End a node without a word, and without a word to the others."""
        self._gone.add(url)
        _process(url).send_signal(signal.SIGKILL)

    def freeze(self, url: str) -> Callable[[], None]:
        """Stop a node, whose sockets stay open; return what lets it go on."""
        process = _process(url)

        def thaw() -> None:
            process.resume()
            self._gone.discard(url)

        process.suspend()
        self._gone.add(url)
        return thaw

    def promote(self, url: str) -> None:
        """Let a replica take the place of its primary, which agrees."""
        ask(url, lambda node: node.execute_command("CLUSTER", "FAILOVER"))

    def begin_move(self, source: str, target: str) -> None:
        """Announce that the slot moves: from now on the keys may be here or there."""
        command = ("CLUSTER", "SETSLOT", self.slot)
        ask(target, lambda node: node.execute_command(*command, "IMPORTING", _name(source)))
        ask(source, lambda node: node.execute_command(*command, "MIGRATING", _name(target)))

    def move_keys(self, source: str, target: str, *names: str) -> None:
        """Move all keys, or those of these names."""
        port = target.rpartition(":")[2]
        keys = [f"{self._prefix}:{name}" for name in names] or self.keys(source)
        ask(source, lambda node: node.execute_command("MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", *keys))

    def end_move(self, source: str, target: str) -> None:
        for url in (target, source):
            ask(url, lambda node: node.execute_command("CLUSTER", "SETSLOT", self.slot, "NODE", _name(target)))

    def move(self, source: str, target: str) -> None:
        self.begin_move(source, target)
        self.move_keys(source, target)
        self.end_move(source, target)

    def _alive(self) -> list[str]:
        return [url for url in self.urls if url not in self._gone]

    def _owners(self, witness: str) -> list[str]:
        """Return the primary and the replicas that the slot has in the eyes of a node."""
        table = ask(witness, lambda node: node.execute_command("CLUSTER", "NODES")).decode()
        nodes = [_Node.parse(line) for line in table.splitlines()]
        [primary] = [node for node in nodes if any(first <= self.slot <= last for first, last in node.slots)]
        return [primary.url, *(node.url for node in nodes if node.primary == primary.id)]

    def _is_content(self, url: str) -> bool:
        info = ask(url, lambda node: node.execute_command("CLUSTER", "INFO")).decode()
        peers = ask(url, lambda node: node.execute_command("CLUSTER", "NODES")).decode()
        replication = ask(url, lambda node: node.info("replication"))
        return (
            "cluster_state:ok" in info
            and "handshake" not in peers
            and peers.count("slave") == len(self.urls) // 2
            and replication.get("master_link_status", "up") == "up"
        )


def ask[T](url: str, question: Ask[T]) -> T:
    with valkey.Valkey.from_url(url, socket_timeout=5) as node:
        return question(node)


def _name(url: str) -> str:
    return str(ask(url, lambda node: node.execute_command("CLUSTER", "MYID")).decode())


def _role(url: str) -> str:
    return str(ask(url, lambda node: node.info("replication"))["role"])


def _process(url: str) -> psutil.Process:
    return psutil.Process(ask(url, lambda node: node.info("server"))["process_id"])


@contextlib.contextmanager
def running(prefix: str) -> Iterator[Cluster]:
    """Run a cluster for as long as the block lasts."""
    databases.require_server("valkey-cluster")
    with servers.running("valkey-cluster") as addresses:
        yield Cluster(addresses["TEST_VALKEY_CLUSTER_URLS"].split(), prefix)
