"""The work as an nbgrader assignment, graded by one `nbgrader autograde` for all submissions."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tests.bench.measure import Cost, Failed, cost
from tests.bench.peers import Environment
from tests.bench.work import Notebook

NAME = "nbgrader"
ASSIGNMENT = "work"
SCORES = f"""
from nbgrader.api import Gradebook
with Gradebook("sqlite:///gradebook.db") as book:
    print(*(int(s.score == s.max_score > 0) for s in book.assignment_submissions("{ASSIGNMENT}")))
"""


class Nbgrader:
    """One piece of work as a course in `folder`."""

    def __init__(self, environment: Environment, folder: Path, notebooks: Iterable[Notebook]) -> None:
        self.environment, self.folder = environment, folder
        self.notebooks = list(notebooks)
        source = folder / "source" / ASSIGNMENT
        source.mkdir(parents=True)
        (folder / "nbgrader_config.py").write_text(
            'c = get_config()\nc.CourseDirectory.course_id = "bench"\nc.ExecutePreprocessor.timeout = 300\n'
        )
        for notebook in self.notebooks:
            nbformat.write(_source(notebook), source / f"{notebook.id}.ipynb")
        environment.ask("nbgrader", "generate_assignment", ASSIGNMENT, cwd=folder)

    def grade(self, count: int) -> Cost:
        """Grade `count` submissions. Failed when one of them does not get full marks."""
        for i in range(count):
            folder = self.folder / "submitted" / f"learner-{i:05}" / ASSIGNMENT
            folder.mkdir(parents=True)
            for notebook in self.notebooks:
                name = f"{notebook.id}.ipynb"
                nbformat.write(_solved(self.folder / "release" / ASSIGNMENT / name, notebook), folder / name)
        before = (self.folder / "gradebook.db").read_bytes()
        program = str(self.environment.folder / "bin" / "nbgrader")
        try:
            found = cost(
                [program, "autograde", ASSIGNMENT], cwd=self.folder, env=self.environment.variables()
            )
            full = self.environment.ask("python", "-c", SCORES, cwd=self.folder).split()
            if full != ["1"] * count:
                raise Failed(f"nbgrader gave full marks to {full.count('1')} of {count} submissions")
            return found
        finally:
            (self.folder / "gradebook.db").write_bytes(before)
            shutil.rmtree(self.folder / "submitted")
            shutil.rmtree(self.folder / "autograded", ignore_errors=True)


def _source(notebook: Notebook) -> NotebookNode:
    """The instructor's version, with nbgrader's cell metadata."""
    answer = f"{notebook.signature}\n    ### BEGIN SOLUTION\n    {notebook.body}\n    ### END SOLUTION"
    cells = [
        nbformat.v4.new_markdown_cell(f"# {notebook.title}"),
        nbformat.v4.new_code_cell(answer, metadata={"nbgrader": _metadata("answer", solution=True)}),
        nbformat.v4.new_code_cell(notebook.test, metadata={"nbgrader": _metadata("test", points=1)}),
    ]
    if notebook.given:
        cells.insert(1, nbformat.v4.new_code_cell(notebook.given))
    return nbformat.v4.new_notebook(
        cells=cells,
        metadata={"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}},
    )


def _metadata(name: str, solution: bool = False, points: int = 0) -> dict[str, object]:
    found: dict[str, object] = {
        "schema_version": 3, "grade_id": name, "solution": solution, "grade": bool(points), "locked": bool(points),
        "task": False,
    }  # fmt: skip
    return found | ({"points": points} if points else {})


def _solved(released: Path, notebook: Notebook) -> NotebookNode:
    found = nbformat.read(released, as_version=4)
    for cell in found.cells:
        if cell.metadata.get("nbgrader", {}).get("grade_id") == "answer":
            cell.source = f"{notebook.signature}\n    {notebook.body}"
    return found
