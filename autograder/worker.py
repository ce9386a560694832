"""One worker process of a batch: grades what it is handed, one submission at a time, and writes the results.

Started by `batch` as `python -m autograder.worker`. It reads a line of JSON with the settings, then a line for each
submission, and answers each with a line: {"ready": true} or {"stop": why it cannot start}, then one for each submission.
Results are on disk before the answer is sent.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from autograder.errors import SandboxError, UserError, did_you_mean
from autograder.exercise import Course
from autograder.sandbox.kernel import PR_SET_PDEATHSIG, give_freed_memory_back, prctl


def main() -> None:
    import gc
    import os
    import signal

    gc.disable()  # until all is imported, of which little is garbage
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a grader that is killed leaves no worker behind
    line = sys.stdin.readline()
    settings = json.loads(line) if line else {}
    if settings.get("grader") != os.getppid():
        return  # it was killed before that took effect
    # Whatever prints must not end up between our answers.
    answers, sys.stdout = sys.stdout, sys.stderr

    def say(reply: dict[str, Any]) -> None:
        answers.write(json.dumps(reply) + "\n")
        answers.flush()

    try:
        worker = _Worker(settings)
    except (UserError, SandboxError, OSError) as error:
        say({"stop": str(error)})
        return
    gc.freeze()
    gc.enable()
    say({"ready": True})
    for line in sys.stdin:
        say(worker.do(json.loads(line)))
    worker.sandbox.close()


class _Worker:
    def __init__(self, settings: dict[str, Any]) -> None:
        import torch

        from autograder.grade import Grader
        from autograder.sandbox.host import Sandbox

        torch.set_num_threads(1)
        give_freed_memory_back()
        self.course = Course(Path(settings["course"]))
        self.out, self.under = Path(settings["out"]), Path(settings["submissions"])
        self.exercises = {e.id: e for e in self.course.exercises()}
        ranks = max((e.limits.ranks for e in self.exercises.values()), default=1)
        self._start = lambda: Sandbox(ranks)
        self.sandbox = self._start()
        self._grader = lambda: Grader(self.sandbox, settings["engine"], settings["seed"])
        self.grader = self._grader()

    def do(self, task: dict[str, str]) -> dict[str, Any]:
        """Grade one submission and write its files. {"status", "score", "max_score"} or {"error": sentence}."""
        for last in (False, True):
            try:
                return self._grade(task["learner"], task["exercise"], Path(task["path"]))
            except SandboxError as error:
                # Not the learner's fault: start again in a new sandbox, once.
                self.sandbox.close()
                if last:
                    return {"error": str(error)}
                try:
                    self.sandbox = self._start()
                except SandboxError as again:
                    return {"error": str(again)}
                self.grader = self._grader()
            except (UserError, OSError) as error:
                return {"error": str(error)}
        raise AssertionError("unreachable")

    def _grade(self, learner: str, exercise_id: str, path: Path) -> dict[str, Any]:
        import nbformat

        from autograder.feedback import as_page
        from autograder.grade import rejected
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
