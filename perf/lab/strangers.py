"""Connections of nobody: those that stay silent, those that send a byte a second, those that come and go.

None of them knows the cluster's key, and none needs to: what is measured is whether others notice them.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from dataclasses import dataclass

# The first bytes of a frame of this protocol, so that a slow sender is not refused by its first ones.
MAGIC = b"QRT1"


@dataclass
class Count:
    """What was opened, and what was ended by the other side."""

    opened: int = 0
    ended: int = 0


@dataclass(frozen=True)
class Wanted:
    """How many at any time, and how many connects a second on top."""

    idle: int = 2_000
    slow: int = 20
    storm_per_s: int = 500


class Strangers:
    """Keeps that many connections open in `with`, from one thread; what the other side ends is opened anew."""

    def __init__(self, ports: list[int], wanted: Wanted) -> None:
        self._ports = ports
        self._wanted = wanted
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="strangers")
        self.idle, self.slow, self.storm = Count(), Count(), Count()

    def __enter__(self) -> Strangers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with contextlib.ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            held: dict[socket.socket, tuple[Count, int]] = {}
            stack.callback(lambda: [connection.close() for connection in held])
            began, spoke = time.monotonic(), 0.0
            while not self._stop.is_set():
                now = time.monotonic()
                for count, most in ((self.idle, self._wanted.idle), (self.slow, self._wanted.slow)):
                    missing = most - sum(1 for of, _ in held.values() if of is count)
                    # Not all at once: what is opened anew would be a storm of its own.
                    for _ in range(min(missing, 100)):
                        connection = self._connect(count)
                        held[connection] = (count, 0)
                        selector.register(connection, selectors.EVENT_READ)
                if now - spoke >= 1:
                    spoke = now
                    self._speak(held)
                due = int((now - began) * self._wanted.storm_per_s)
                while self.storm.opened < due and not self._stop.is_set():
                    self._connect(self.storm).close()
                for key, _ in selector.select(timeout=0.01):
                    connection = key.fileobj
                    assert isinstance(connection, socket.socket), "only these were registered"
                    if _is_over(connection):
                        selector.unregister(connection)
                        count, _sent = held.pop(connection)
                        count.ended += 1
                        connection.close()

    def _connect(self, count: Count) -> socket.socket:
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        connection.setblocking(False)
        port = self._ports[count.opened % len(self._ports)]
        count.opened += 1
        # It is on its way, or refused, which shows as its end.
        connection.connect_ex(("127.0.0.1", port))
        return connection

    def _speak(self, held: dict[socket.socket, tuple[Count, int]]) -> None:
        for connection, (count, sent) in list(held.items()):
            if count is self.slow:
                with contextlib.suppress(OSError):
                    connection.send(MAGIC[sent % 4 : sent % 4 + 1])
                held[connection] = (count, sent + 1)


def _is_over(connection: socket.socket) -> bool:
    try:
        return connection.recv(4096) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
