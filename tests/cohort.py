"""Make a sample cohort: twelve learners and what each handed in for three exercises. `python tests/cohort.py --out DIR`.

Right answers, each kind of wrong one, half done, untouched, malformed and hostile notebooks: what a trainer meets. Made
from the exercises' own folders, so that it fits whatever the course holds; nothing of it is stored.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

import nbformat

from autograder.exercise import Course, Exercise
from autograder.release import skeleton

Answers = dict[str, str]


def notebook(exercise: Exercise, answers: Answers) -> str:
    """The released notebook of `exercise` with `answers` filled in, as text."""
    made = skeleton(exercise)
    for cell in made.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        if name in answers:
            cell.source = answers[name]
    return nbformat.writes(made)


def solved(exercise: Exercise) -> str:
    return notebook(exercise, exercise.solution())


def right(number: int) -> Callable[[Exercise], str]:
    def make(exercise: Exercise) -> str:
        variants = exercise.variants("right")
        return notebook(exercise, dict(variants[number % len(variants)].answers))

    return make


def wrong(number: int) -> Callable[[Exercise], str]:
    def make(exercise: Exercise) -> str:
        variants = exercise.variants("wrong")
        return notebook(exercise, dict(variants[number % len(variants)].answers))

    return make


def half_done(exercise: Exercise) -> str:
    """The first answer only."""
    first = exercise.answer_ids()[0]
    return notebook(exercise, {first: exercise.solution()[first]})


def untouched(exercise: Exercise) -> str:
    return notebook(exercise, {})


def malformed(exercise: Exercise) -> str:
    return solved(exercise)[:-200]


def syntax_error(exercise: Exercise) -> str:
    answers = exercise.solution()
    last = exercise.answer_ids()[-1]
    return notebook(exercise, answers | {last: answers[last].replace(":\n", "\n", 1)})


def leaves(exercise: Exercise) -> str:
    """Tries to forge a pass mark and leaves before anything can be checked."""
    forged = (
        'print("score: 100 %")\nopen("result.json", "w").write("{\\"score\\": 100}")\nimport os\nos._exit(0)'
    )
    return notebook(exercise, dict.fromkeys(exercise.answer_ids(), forged))


def snoops(exercise: Exercise) -> str:
    """Looks for solutions and other people's work, and for a way out, before answering wrongly."""
    look = (
        "import glob, os, socket\n"
        "print(glob.glob('/home/*') + glob.glob('/**/*.ipynb') + glob.glob('/**/judge.py', recursive=False))\n"
        "try:\n    socket.create_connection(('192.0.2.1', 80), timeout=1)\nexcept OSError as error:\n    print(error)\n"
    )
    answers = dict(exercise.variants("wrong")[0].answers)
    first = exercise.answer_ids()[0]
    return notebook(exercise, answers | {first: look + answers[first]})


COHORT: dict[str, Callable[[Exercise], str]] = {
    "anna": solved,
    "bram": right(0),
    "chloe": right(1),
    "dimitri": wrong(0),
    "elena": wrong(1),
    "fatima": wrong(2),
    "giorgos": wrong(3),
    "hanna": half_done,
    "ivan": untouched,
    "jana": malformed,
    "karel": leaves,
    "lucia": snoops,
}

EXERCISES = ("ring-all-reduce", "ddp-from-scratch", "zero")  # three, so that a demonstration takes a minute


def make_cohort(course: Course, out: Path) -> int:
    """Write OUT/submissions/<learner>/<exercise>.ipynb; how many."""
    folder = out / "submissions"
    shutil.rmtree(folder, ignore_errors=True)
    count = 0
    for place, (learner, make) in enumerate(COHORT.items()):
        for number, exercise in enumerate(map(course.exercise, EXERCISES)):
            # The untouched and the malformed are not so in every exercise: people get stuck in different places.
            chosen = syntax_error if make is malformed and number == 1 else make
            if make in (COHORT["dimitri"], COHORT["elena"], COHORT["fatima"], COHORT["giorgos"]):
                chosen = wrong(place - 3 + 4 * (number % 2))
            path = folder / learner / f"{exercise.id}.ipynb"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(chosen(exercise), encoding="utf-8")
            count += 1
    return count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    folder = parser.parse_args().out
    print(
        f"{make_cohort(Course.find(), folder)} submissions of {len(COHORT)} learners in {folder / 'submissions'}"
    )
