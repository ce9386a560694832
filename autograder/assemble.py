"""The trusted skeleton with a learner's answers: the notebook that is run.

Everything but the answers comes from the course, so edited points, deleted checks, injected tags, other
kernels and added cells are void. `try-it` cells (for the learner's own play) and the check cell are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autograder.exercise import Exercise
from autograder.release import skeleton
from autograder.submission import Submission

if TYPE_CHECKING:
    from nbformat import NotebookNode


def assemble(exercise: Exercise, submission: Submission) -> NotebookNode:
    """The notebook to run: statement, given code, answers; the stub where an answer is missing.

    A code cell's metadata is `{"all_aboard": {"answer": id}}`, or `{"all_aboard": {}}` if the code is given.
    """
    notebook = skeleton(exercise)
    ids = set(exercise.answer_ids())
    cells = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        name = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        if name == "check" or "try-it" in tags:
            continue
        metadata: dict[str, Any] = {}
        if cell.cell_type == "code":
            metadata["all_aboard"] = {"answer": name} if name in ids else {}
        if "parameters" in tags:
            metadata["tags"] = ["parameters"]  # where papermill injects
        source = submission.answers.get(name, cell.source) if name in ids else cell.source
        cells.append(cell | {"source": source, "metadata": metadata})
    return _node(notebook | {"cells": cells})


def solved_cells(exercise: Exercise) -> list[str]:
    """The code of the notebook that is run when the exercise is solved."""
    solution = Submission(answers=exercise.solution())
    return [cell.source for cell in assemble(exercise, solution).cells if cell.cell_type == "code"]


def _node(content: dict[str, Any]) -> NotebookNode:
    from autograder.notebook_format import nbformat

    return nbformat.from_dict(content)
