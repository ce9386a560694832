"""What a command costs: wall and processor seconds and memory, of it and of every process below it."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench.clock import TaskClock

SAMPLE_S = 0.1  # memory is looked at this often, or less often where looking would take a tenth of a core
TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A command that ended with an error: which, and its last words."""


@dataclass(frozen=True)
class Cost:
    """Of one command and everything it started. `others`: cores that the rest of the machine kept busy meanwhile."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    others: float

    def as_json(self) -> dict[str, Any]:
        return {key: round(value, 3) for key, value in asdict(self).items()}


def cost(command: list[str], cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Cost:
    """Run `command` to its end. Failed when it exits with an error.

    Processor time is the kernel's task clock over the command and all its descendants; where that may not be read, its
    sum over those that were waited for. Memory is the largest sum of PSS (pages that several processes share are counted
    once) over the tree of processes at one moment.
    """
    with tempfile.TemporaryFile() as output:
        watch = _Watch()  # before the clock: what this thread starts after that is counted
        clock = _clock()
        busy, start = _busy_s(), time.perf_counter()
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        watch.root = process.pid
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            watch.stop()
            counted = clock.stop() if clock else None
        wall_s, busy = time.perf_counter() - start, _busy_s() - busy
        process.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait for it again
        if process.returncode:
            output.seek(0)
            last = "\n".join(output.read().decode("utf-8", "replace").strip().splitlines()[-12:])
            raise Failed(f"`{' '.join(command)}` ended with status {process.returncode}:\n{last}")
    cpu_s = usage.ru_utime + usage.ru_stime if counted is None else counted
    return Cost(wall_s, cpu_s, watch.peak_bytes, max(0.0, busy - cpu_s) / wall_s)


def _clock() -> TaskClock | None:
    try:
        return TaskClock()
    except OSError:
        return None


class _Watch:
    """Looks at the tree of processes below `root` (none at first) until it is stopped."""

    def __init__(self) -> None:
        self.root, self.peak_bytes = 0, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            start = time.thread_time()
            if self.root:
                self.peak_bytes = max(self.peak_bytes, sum(_bytes_of(pid) for pid in _tree(self.root)))
            self._over.wait(max(SAMPLE_S, 9 * (time.thread_time() - start)))


def _tree(root: int) -> list[int]:
    """`root` and all its descendants that live now."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parent = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue  # it ended while we looked
            children.setdefault(parent, []).append(int(name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _bytes_of(pid: int) -> int:
    """PSS of a process; where the kernel does not show it to us, its resident memory. 0 when it has ended."""
    for file, key in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        try:
            for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
                if line.startswith(key):
                    return int(line.split()[1]) * 1024
        except (OSError, ValueError):
            continue
    return 0


def _busy_s() -> float:
    """Processor seconds the whole machine has worked since it started."""
    user, nice, system, _idle, _wait, irq, soft = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + soft) / TICKS
