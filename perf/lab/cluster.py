"""A fresh cluster on this machine in a scratch directory of its own, both removed at the end.

The directory lies below ${TMPDIR:-/var/tmp}: the servers need a file system with direct IO, which
/tmp often is not.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from lab.script import CHECK, FAILED, OK, Failure, Settings

# A line of a node's log.
FIRST_CHECKPOINT = re.compile(r"^(\S+)Z .*checkpoint published number=1 ", re.MULTILINE)
NEW_PART = re.compile(r"^(\S+)Z .*part in the group .*role=\"(\w+)\"", re.MULTILINE)
# The executor of a replica is named for it; glommio adds the executor's number in its process.
EXECUTOR = re.compile(r"(s\d+r\d+)-\d+")


class Cluster:
    """Starts in `with`; at its end nothing of it is left."""

    def __init__(
        self, settings: Settings, shards: int, replicas: int, key: bool = False
    ) -> None:
        self._settings = settings
        self.shards = shards
        self.replicas = replicas
        self._key = key
        self.scratch = Path()

    @property
    def topology(self) -> Path:
        return self.scratch / "cluster.toml"

    def __enter__(self) -> Cluster:
        parent = os.environ.get("TMPDIR") or "/var/tmp"
        self.scratch = Path(tempfile.mkdtemp(prefix="quorate-perf.", dir=parent))
        try:
            # One node for each replica of a shard, as on so many machines.
            shape = {"shards": self.shards, "replicas": self.replicas, "nodes": self.replicas}
            options = [word for key, value in shape.items() for word in (f"--{key}", str(value))]
            place = [
                "--dir",
                str(self.scratch / "data"),
                "--base-port",
                str(self._settings.base_port),
            ]
            if self._key:
                place += ["--key-file", str(self.scratch / "key")]
            self.topology.write_text(self._quorate("init", *options, *place))
            self._quorate("start", "-f", str(self.topology), "--wait", "60s")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove()

    def kill(self, node: int) -> None:
        """Ends a node's process without a word."""
        self._quorate("kill", "-f", str(self.topology), "--node", str(node))

    def start(self) -> None:
        """Starts the nodes that do not run, and waits for none."""
        self._quorate("start", "-f", str(self.topology), "--wait", "0s")

    def processes(self) -> dict[int, int]:
        """Node -> process id."""
        nodes = json.loads(self._quorate("ps", "-f", str(self.topology), "--json"))["nodes"]
        return {node["node"]: node["pid"] for node in nodes if node["alive"]}

    def replicas_now(self) -> list[dict[str, Any]]:
        """What every replica says of itself."""
        command = [str(self._settings.quorate), "status", "-f", str(self.topology), "--json"]
        replicas: list[dict[str, Any]] = json.loads(_output(command))["replicas"]
        return replicas

    def leaders(self) -> list[str]:
        """The leaders, as `s1r1`, ascending."""
        leaders = [replica for replica in self.replicas_now() if replica["role"] == "leader"]
        return sorted(f"s{replica['shard']}r{replica['replica']}" for replica in leaders)

    def undo(self) -> dict[str, Any]:
        """Brings back what the last plan has moved, an undo as well, as fast as it goes: nobody waits for the
        accounts meanwhile. Its document, whatever the check of the money said."""
        command = [str(self._settings.quorate), "reshard", "undo", "-f", str(self.topology)]
        return _checked([*command, "--rest", "0", "--json"])

    def verify(self) -> dict[str, Any]:
        """The check of the money and of the replicas, whatever it said."""
        command = [str(self._settings.quorate), "verify", "-f", str(self.topology)]
        return _checked([*command, "--wait", "60s", "--json"])

    def executor(self, replica: str) -> int:
        """The thread that runs this replica."""
        for process in self.processes().values():
            for task in Path(f"/proc/{process}/task").iterdir():
                match = EXECUTOR.fullmatch((task / "comm").read_text().strip())
                if match and match[1] == replica:
                    return int(task.name)
        raise Failure(
            f"no thread of replica {replica}; the leaders are {', '.join(self.leaders())}"
        )

    def checkpointed(self, before_ns: int) -> int:
        """How many replicas had published a checkpoint before this time."""
        return sum(first_checkpoints(log, before_ns) for log in self._logs())

    def led_anew(self, from_ns: int, to_ns: int) -> bool:
        """Whether a replica came to lead or to serve in this time."""
        return any(new_leaders(log, from_ns, to_ns) > 0 for log in self._logs())

    def _logs(self) -> list[str]:
        logs = (self.scratch / "data").glob("n*/node.log")
        return [log.read_text(errors="replace") for log in logs]

    def _quorate(self, *arguments: str) -> str:
        return _output([str(self._settings.quorate), "cluster", *arguments])

    def _remove(self) -> None:
        try:
            # An empty file is there when `init` failed.
            if self.topology.exists() and self.topology.stat().st_size > 0:
                self._end("stop")
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def _end(self, how: str) -> None:
        try:
            self._quorate(how, "-f", str(self.topology))
        except Failure:
            if how == "kill":
                raise
            self._end("kill")


def first_checkpoints(log: str, before_ns: int) -> int:
    """The replicas of a node whose first checkpoint was published before this time, by its log."""
    return sum(1 for at in FIRST_CHECKPOINT.findall(log) if _unix_ns(at) < before_ns)


def new_leaders(log: str, from_ns: int, to_ns: int) -> int:
    """How often a replica of a node became leader, or began to serve as one, from one time to another, by its log."""
    parts = NEW_PART.findall(log)
    return sum(1 for at, role in parts if role == "leader" and from_ns <= _unix_ns(at) < to_ns)


def _unix_ns(at: str) -> int:
    return int(datetime.fromisoformat(at + "+00:00").timestamp() * 1e9)


def _output(command: list[str]) -> str:
    done = _run(command)
    if done.returncode != OK:
        raise _failure(command, done)
    return done.stdout


def _checked(command: list[str]) -> dict[str, Any]:
    """The document of a command that ends with a check of the money."""
    done = _run(command)
    if done.returncode not in (OK, CHECK) or not done.stdout.strip():
        raise _failure(command, done)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _failure(command: list[str], done: subprocess.CompletedProcess[str]) -> Failure:
    words, code = " ".join(command[1:]), done.returncode
    return Failure(
        f"quorate {words} failed ({code}): {done.stderr.strip()[-2000:]}",
        CHECK if code == CHECK else FAILED,
    )
