"""Grade a folder of submissions with several workers, so that nothing one learner hands in can stop the others.

    SUBMISSIONS/<learner>/<exercise-id>.ipynb   →   RESULTS/<learner>/<exercise-id>/{result.json, …}

A submission is done when its `result.json` is there, belongs to the same file contents, and came from the same seed and
engine; the same command goes on where it was. A worker that dies is replaced, and what it held is tried once more.
Workers that cannot even start say nothing about a submission: after a few of them the batch stops with the reason.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autograder.errors import UserError
from autograder.exercise import Course
from autograder.sandbox import messages

TRIES = 2
STARTS = 3  # workers that fail one after the other before any could work
PATIENCE_S = 900.0  # a worker silent for this long is stuck: limits end every submission long before


@dataclass(frozen=True)
class Task:
    """One submission to grade."""

    learner: str
    exercise: str
    path: Path


@dataclass
class Batch:
    """What a batch will do and did."""

    seed: str
    engine: str
    todo: list[Task] = field(default_factory=list)
    done_before: list[Task] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    # Submissions that could not be graded, and why.
    errors: list[tuple[str, str]] = field(default_factory=list)


Progress = Callable[[Task, dict[str, Any]], None]


def plan(submissions: Path, out: Path, engine: str, seed: str | None, force: bool) -> Batch:
    """Find what is to be graded. UserError when there is nothing to read or nowhere to write."""
    if not submissions.is_dir():
        raise UserError(
            f"There is no folder {submissions}; it should hold one folder per learner with notebooks in it."
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".write-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
        for draft in out.glob(".*.tmp"):  # of a grader that was killed while it wrote
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(out, error) from None
    known = _seed_of(out)
    used = seed or known or secrets.token_hex(16)
    if known not in (None, used):
        force = True  # other draws: every grade is made anew
    batch = Batch(used, engine)
    for learner in sorted(submissions.iterdir()):
        if learner.is_symlink() or not learner.is_dir():
            if not learner.name.startswith("."):
                batch.warnings.append(f"{_safe(learner.name)} is not a learner's folder; passed over")
            continue
        try:
            paths = sorted(learner.iterdir())
        except OSError as error:
            batch.warnings.append(f"{_safe(learner.name)} cannot be read ({error.strerror}); passed over")
            continue
        notebooks = [p for p in paths if p.suffix == ".ipynb" and not p.name.startswith(".")]
        if not notebooks:
            batch.warnings.append(
                f"{_safe(learner.name)} holds no notebook (EXERCISE.ipynb), so it has no grade"
            )
        for path in notebooks:
            task = Task(learner.name, path.stem, path)
            if not force and _is_done(task, out, batch):
                batch.done_before.append(task)
            else:
                batch.todo.append(task)
    try:
        _write_settings(out, {"seed": used, "engine": engine})
    except OSError as error:
        raise _unwritable(out, error) from None
    return batch


def lost(batch: Batch, out: Path) -> list[str]:
    """Results that were there or were made, and are no longer: somebody took the folder away meanwhile."""
    failed = {name for name, _ in batch.errors}
    names = [
        (task, f"{_safe(task.learner)}/{_safe(task.exercise)}") for task in batch.done_before + batch.todo
    ]
    return [name for task, name in names if name not in failed and not _result_path(out, task).is_file()]


def _unwritable(out: Path, error: OSError) -> UserError:
    why = "it is a file, not a folder" if isinstance(error, FileExistsError) else error.strerror
    return UserError(f"Results cannot be written to {out}: {why}. Choose another --out.")


def run(course: Course, submissions: Path, out: Path, batch: Batch, jobs: int, on_done: Progress) -> None:
    """Grade everything in `batch.todo` with `jobs` workers; `on_done` hears of each as it ends."""
    settings = {
        "course": str(course.root.resolve()), "out": str(out.resolve()), "submissions": str(submissions.resolve()),
        "engine": batch.engine, "seed": batch.seed,
    }  # fmt: skip
    _Pool(settings, batch, jobs, on_done).run()


ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def crew_command(fd: int) -> list[str]:
    return [sys.executable, "-m", "autograder.worker", str(fd)]


class Crew:
    """The process that workers are forked from (`worker.py`), and the way to it."""

    def __init__(
        self, settings: dict[str, str], command: Callable[[int], list[str]] = crew_command, **how: Any
    ) -> None:
        """command: the command line, for the number of a descriptor. how: more for `subprocess.Popen`."""
        ours, theirs = socket.socketpair()
        fd = theirs.fileno()
        with theirs, open(os.path.join(settings["out"], ".worker.log"), "ab") as log:
            options: dict[str, Any] = {"env": os.environ | ONE_THREAD, "stderr": log} | how
            self.process = subprocess.Popen(
                command(fd), pass_fds=[fd], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **options
            )
        self.line, self.hired = ours, 0
        self._say(settings | {"grader": os.getpid()})

    def alive(self) -> bool:
        return self.process.poll() is None

    def hire(self) -> Worker:
        self.hired += 1
        ours, theirs = socket.socketpair()
        with theirs:
            self._say({"op": "hire", "number": self.hired}, theirs.fileno())
        return Worker(self, self.hired, ours)

    def kill(self, number: int) -> None:
        self._say({"op": "kill", "number": number})

    def _say(self, order: dict[str, Any], *fds: int) -> None:
        try:
            messages.send(self.line, order)
            if fds:
                socket.send_fds(self.line, [b"w"], list(fds))
        except OSError:
            pass  # its end is noticed when the worker's answer does not come

    def end(self, kill: bool = False) -> None:
        if kill:
            self.process.kill()
        self.line.close()
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Worker:
    """A worker, and the way to it."""

    def __init__(self, crew: Crew, number: int, line: socket.socket) -> None:
        self.crew, self.number, self.line = crew, number, line
        self.task: Task | None = None
        self.ready = False
        self.since = time.monotonic()

    def give(self, task: Task) -> None:
        self.task, self.since = task, time.monotonic()
        order = {"learner": task.learner, "exercise": task.exercise, "path": str(task.path.absolute())}
        try:
            messages.send(self.line, order)
        except OSError:
            pass  # its end is noticed when its answer does not come

    def hear(self) -> dict[str, Any] | None:
        """What it says next; None when it has ended."""
        try:
            reply: dict[str, Any] = messages.receive(self.line)
            return reply
        except (EOFError, OSError, ValueError):
            return None

    def end(self) -> None:
        """Kill it, if it has not ended."""
        self.crew.kill(self.number)
        self.line.close()


class _Pool:
    def __init__(self, settings: dict[str, str], batch: Batch, jobs: int, on_done: Progress) -> None:
        self.settings, self.batch, self.on_done = settings, batch, on_done
        self.queue = list(reversed(batch.todo))
        self.tried: dict[Task, int] = {}
        self.jobs = max(1, min(jobs, len(self.queue)))
        self.selector = selectors.DefaultSelector()
        self.crew: Crew | None = None
        self.workers: list[Worker] = []
        self.failed_starts = 0

    def run(self) -> None:
        try:
            while self.queue or any(w.task for w in self.workers):
                while len(self.workers) < self.jobs and len(self.queue) > sum(
                    1 for w in self.workers if not w.task
                ):
                    self._hire()
                for worker in self.workers:
                    if worker.ready and worker.task is None and self.queue:
                        worker.give(self.queue.pop())
                for key, _ in self.selector.select(timeout=1.0):
                    self._hear(key.data)
                for worker in list(self.workers):
                    if (worker.task or not worker.ready) and time.monotonic() - worker.since > PATIENCE_S:
                        self._lose(worker, "it said nothing for a long time")
        finally:
            busy = any(worker.task is not None or not worker.ready for worker in self.workers)
            for worker in self.workers:
                worker.line.close()
            if self.crew:
                self.crew.end(kill=busy)
            self.selector.close()

    def _hire(self) -> None:
        if self.crew and not self.crew.alive():
            self.crew.end()
            self.crew = None
        self.crew = self.crew or Crew(self.settings)
        worker = self.crew.hire()
        self.workers.append(worker)
        self.selector.register(worker.line, selectors.EVENT_READ, worker)

    def _hear(self, worker: Worker) -> None:
        reply = worker.hear()
        if reply is None:
            self._lose(worker, f"it ended without a word; its log is {self._log()}")
        elif "stop" in reply or "lost" in reply:
            self._lose(worker, reply.get("stop") or reply["lost"])
        elif worker.task is None:
            worker.ready, self.failed_starts = True, 0
        else:
            task, worker.task = worker.task, None
            self._finish(task, reply)

    def _finish(self, task: Task, reply: dict[str, Any]) -> None:
        if "error" in reply:
            self.batch.errors.append((f"{_safe(task.learner)}/{_safe(task.exercise)}", reply["error"]))
        self.on_done(task, reply)

    def _log(self) -> str:
        return os.path.join(self.settings["out"], ".worker.log")

    def _lose(self, worker: Worker, why: str) -> None:
        """A worker ended, is stuck or has no sandbox any more: it will be replaced, and its submission tried once more."""
        self.selector.unregister(worker.line)
        self.workers.remove(worker)
        worker.end()
        task = worker.task
        if not worker.ready:
            self.failed_starts += 1
            if self.failed_starts >= STARTS:
                raise UserError(f"No worker can start, so nothing is graded: {why}")
        if task is None:
            return
        self.tried[task] = self.tried.get(task, 0) + 1
        if self.tried[task] < TRIES:
            self.queue.append(task)
        else:
            self._finish(task, {"error": f"{TRIES} workers gave up on it. The last: {why}"})


def _is_done(task: Task, out: Path, batch: Batch) -> bool:
    from autograder.store import read_result
    from autograder.submission import file_sha256

    path = _result_path(out, task)
    if not path.is_file() or not _has_content(path.with_name("feedback.html")):
        return False
    result = read_result(path)
    return (
        result is not None and result.submission_sha256 == file_sha256(task.path)
        and result.seed == batch.seed and result.engine == batch.engine
    )  # fmt: skip


def _result_path(out: Path, task: Task) -> Path:
    return out / task.learner / task.exercise / "result.json"


def _has_content(path: Path) -> bool:
    # Nothing is flushed to the disk when it is written; after a power cut a file may be there and empty.
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _seed_of(out: Path) -> str | None:
    """The seed of the results in `out`: as written down for the batch or, when that is lost, by the first result."""
    from autograder.store import read_result

    try:
        seed = json.loads((out / "batch.json").read_bytes())["seed"]
        if isinstance(seed, str) and seed:
            return seed
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    for path in sorted(out.glob("*/*/result.json")):
        result = read_result(path)
        if result is not None and result.seed:
            return result.seed
    return None


def _write_settings(out: Path, settings: dict[str, str]) -> None:
    from autograder.release import write_atomic

    write_atomic(out / "batch.json", (json.dumps(settings, indent=1) + "\n").encode())


def _safe(name: str) -> str:
    from autograder.submission import safe_text

    return safe_text(name)
