"""Workers of a batch: each grades what it is handed, one submission at a time, and writes the results.

Started by `batch` as `python -m autograder.worker FD`: a process that loads what grading needs once and then is forked for
every worker. It reads the settings from the socket FD, then orders. {"op": "hire", "number": n} comes with a socket, on which the
new worker says {"ready": its process id} or {"stop": why it cannot start} and then obeys: a task for each submission, an
answer to each; after {"lost": why} it is gone. Results are on disk before the answer is sent. {"op": "kill", "number": n} ends a worker, and when the socket is
closed, all end.
"""

from __future__ import annotations

import gc
import os
import re
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from autograder.errors import SandboxError, UserError, did_you_mean
from autograder.sandbox import messages, warm
from autograder.sandbox.kernel import PR_SET_PDEATHSIG, give_freed_memory_back, prctl


def main() -> None:
    gc.disable()  # until all is imported, of which little is garbage
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a grader that is killed leaves nothing behind
    line = socket.socket(fileno=int(sys.argv[1]))
    try:
        settings = messages.receive(line)
    except (EOFError, OSError):
        return
    if settings["grader"] == os.getppid():  # else it was killed before that took effect
        _Crew(line, settings).serve()


class _Crew:
    """The process that is forked for every worker, and the server that is forked for every worker's sandbox."""

    def __init__(self, line: socket.socket, settings: dict[str, Any]) -> None:
        self.line, self.settings = line, settings
        self.workers: dict[int, int] = {}  # number → process id
        self.exercises: dict[str, Any] = {}
        self.optimizers = optimizers_in(Path(settings["course"]))
        self.server = warm.begin(self.optimizers)  # it loads beside this process
        from autograder import execute, feedback, grade, notebook_format, store, submission  # noqa: F401
        from autograder.exercise import Course

        self.course = Course(Path(settings["course"]))
        self._read_ahead()
        give_freed_memory_back()
        gc.freeze()
        gc.enable()

    def _read_ahead(self) -> None:
        """What every worker would have to read and import first, while the server is still loading."""
        try:
            self.exercises = self._exercises()
            for exercise in self.exercises.values():
                exercise.answer_ids()
        except UserError:
            pass  # what is wrong with the course is said by whoever needs it
        if self.optimizers:
            import torch._dynamo  # noqa: F401

    def _exercises(self) -> dict[str, Any]:
        return {exercise.id: exercise for exercise in self.course.exercises()}

    def serve(self) -> None:
        """Obey until the batch hangs up."""
        while True:
            try:
                order = messages.receive(self.line)
            except (EOFError, OSError):
                break
            self._bury()
            if order["op"] == "kill":
                if order["number"] in self.workers:
                    os.kill(self.workers[order["number"]], signal.SIGKILL)
            else:
                _, fds, _, _ = socket.recv_fds(self.line, 1, 1)
                with socket.socket(fileno=fds[0]) as worker_line:
                    self._hire(order["number"], worker_line)
        for pid in self.workers.values():
            os.waitpid(pid, 0)
        if self.server:
            self.server.close()

    def _bury(self) -> None:
        """Forget workers that have ended: their numbers may come to mean other processes."""
        for number, pid in list(self.workers.items()):
            if os.waitpid(pid, os.WNOHANG)[0]:
                del self.workers[number]

    def _hire(self, number: int, line: socket.socket) -> None:
        try:
            exercises = self.exercises or self._exercises()
            ranks = max((e.limits.ranks for e in exercises.values()), default=1)
            sandbox = self._sandbox(ranks)
        except (UserError, SandboxError, OSError) as error:
            messages.send(line, {"stop": str(error)})
            return
        pid = os.fork()
        if pid == 0:
            _be_worker(self, line, sandbox, exercises)
        self.workers[number] = pid
        sandbox.close()  # it is the worker's now

    def _sandbox(self, ranks: int) -> Any:
        from autograder.sandbox.host import Sandbox

        if self.server and not self.server.alive():
            self.server.close()
            self.server = None
        sandbox = Sandbox(ranks, server=self.server)
        self.server = sandbox.let_go()
        return sandbox


def optimizers_in(course: Path) -> bool:
    """Whether an exercise has to do with optimizers or sharding, for which PyTorch imports a second's worth of modules."""
    names = ("exercise.md", "drive.py", "judge.py")
    texts = (
        path.read_bytes() for name in names for path in course.glob(f"exercises/*/{name}") if path.is_file()
    )
    return any(re.search(rb"torch\.optim|fully_shard|torch\.compile", text) for text in texts)


def _be_worker(crew: _Crew, line: socket.socket, sandbox: Any, exercises: dict[str, Any]) -> NoReturn:
    status = 1
    try:
        parent = os.getppid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        crew.line.close()
        crew.server.forget()  # type: ignore[union-attr]
        if os.getppid() == parent:
            _Worker(crew.settings, sandbox, exercises).serve(line)
            status = 0
    except BaseException:
        traceback.print_exc()  # to the batch's log
    finally:
        sys.stderr.flush()
        os._exit(status)


class _Worker:
    def __init__(self, settings: dict[str, Any], sandbox: Any, exercises: dict[str, Any]) -> None:
        import torch

        from autograder.grade import Grader

        torch.set_num_threads(1)
        self.out, self.under = Path(settings["out"]), Path(settings["submissions"])
        self.sandbox, self.exercises = sandbox, exercises
        self.grader = Grader(sandbox, settings["engine"], settings["seed"])

    def serve(self, line: socket.socket) -> None:
        """Grade what comes until the batch hangs up, or the sandbox is broken: then another worker gets another one."""
        messages.send(line, {"ready": os.getpid()})
        answer: dict[str, Any] = {}
        while "lost" not in answer:
            try:
                task = messages.receive(line)
            except (EOFError, OSError):
                break
            answer = self.do(task)
            messages.send(line, answer)
        self.sandbox.close()

    def do(self, task: dict[str, str]) -> dict[str, Any]:
        """Grade one submission and write its files.

        {"status", "score", "max_score"}, {"error": sentence}, or {"lost": why} when it is not the learner's fault.
        """
        try:
            return self._grade(task["learner"], task["exercise"], Path(task["path"]))
        except SandboxError as error:
            return {"lost": str(error)}
        except (UserError, OSError) as error:
            return {"error": str(error)}

    def _grade(self, learner: str, exercise_id: str, path: Path) -> dict[str, Any]:
        from autograder.feedback import as_page
        from autograder.grade import rejected
        from autograder.notebook_format import nbformat
        from autograder.store import write_result
        from autograder.submission import safe_text

        exercise = self.exercises.get(exercise_id)
        executed = None
        if exercise is None:
            close = did_you_mean(exercise_id, self.exercises)
            message = (
                f"There is no exercise {safe_text(exercise_id)!r}{close}. Name the file after its exercise."
            )
            result = rejected(learner, None, message, self.grader, path, id=exercise_id)
        else:
            result, executed = self.grader.grade(learner, exercise, path, under=self.under)
        text = nbformat.writes(executed) if executed is not None else None
        write_result(self.out / learner / exercise_id, result, as_page(result, executed), text)
        return {"status": result.status, "score": result.score, "max_score": result.max_score}


if __name__ == "__main__":
    main()
