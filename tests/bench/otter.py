"""The work as Otter Assign notebooks, graded without a container: by `otter run`, or by the same from Python.

`otter run` grades one notebook, so each is a command of its own; as many run at a time as there are cores.
`otter.api.grade_submission` is what it calls; in a loop, the imports are paid once per core and not once per notebook.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tests.bench.measure import Cost, Failed, cost
from tests.bench.peers import Environment
from tests.bench.work import Notebook

NAME = "otter-grader"

# Arguments: a file of commands, one per line, and how many run at a time.
TOGETHER = 'xargs -a "$1" -P "$2" -L 1 otter run --no-logo >/dev/null'
IN_PROCESS = """
import json, multiprocessing, sys
from otter.api import grade_submission

def grade(pairs):
    for submission, autograder, out in pairs:
        results = grade_submission(submission, autograder, quiet=True)
        with open(out, "w") as file:
            json.dump({"score": results.total, "possible": results.possible}, file)

if __name__ == "__main__":
    pairs, jobs = json.load(open(sys.argv[1])), int(sys.argv[2])
    parts = [multiprocessing.Process(target=grade, args=(pairs[i::jobs],)) for i in range(jobs)]
    for part in parts:
        part.start()
    for part in parts:
        part.join()
    sys.exit(max(part.exitcode for part in parts))
"""


class Otter:
    """One piece of work in `folder`: an autograder file and a learner's notebook for each of `notebooks`."""

    def __init__(self, environment: Environment, folder: Path, notebooks: Iterable[Notebook]) -> None:
        self.environment, self.folder = environment, folder
        self.autograders: dict[str, Path] = {}
        self.solved: dict[str, NotebookNode] = {}
        for notebook in notebooks:
            name = f"{notebook.id}.ipynb"
            nbformat.write(_source(notebook), folder / name)
            environment.ask("otter", "assign", "--no-run-tests", "--no-pdfs", name, notebook.id, cwd=folder)
            (self.autograders[notebook.id],) = (folder / notebook.id / "autograder").glob("*.zip")
            self.solved[notebook.id] = _solved(folder / notebook.id / "student" / name, notebook)
        (folder / "in_process.py").write_text(IN_PROCESS)

    def grade(self, count: int, jobs: int, in_process: bool = False) -> Cost:
        """Grade `count` submissions, `jobs` at a time. Failed when one of them does not get full marks."""
        pairs = []
        for i in range(count):
            for name, notebook in self.solved.items():
                folder = self.folder / "submitted" / f"learner-{i:05}" / name
                folder.mkdir(parents=True)
                nbformat.write(notebook, folder / f"{name}.ipynb")
                pairs.append(
                    (str(folder / f"{name}.ipynb"), str(self.autograders[name]), str(folder / "results.json"))
                )
        if in_process:
            (self.folder / "pairs.json").write_text(json.dumps(pairs))
            command = [str(self.environment.python), "in_process.py", "pairs.json", str(jobs)]
        else:
            lines = [f"-a {grader} -o {Path(out).parent} {notebook}\n" for notebook, grader, out in pairs]
            (self.folder / "commands").write_text("".join(lines))
            command = ["sh", "-c", TOGETHER, "otter", "commands", str(jobs)]
        try:
            found = cost(command, cwd=self.folder, env=self.environment.variables())
            full = sum(_full_marks(Path(out)) for _, _, out in pairs)
            if full != len(pairs):
                raise Failed(f"otter gave full marks to {full} of {len(pairs)} notebooks")
            return found
        finally:
            shutil.rmtree(self.folder / "submitted")


def _full_marks(out: Path) -> bool:
    """Does a results.json, of `otter run` or of IN_PROCESS, give every point?"""
    found = json.loads(out.read_text())
    if "possible" in found:
        return bool(found["score"] == found["possible"] > 0)
    tests = [test for test in found["tests"] if test.get("max_score")]
    return bool(tests) and all(test["score"] == test["max_score"] for test in tests)


def _source(notebook: Notebook) -> NotebookNode:
    """The instructor's version, in Otter Assign's format."""
    raw, code = nbformat.v4.new_raw_cell, nbformat.v4.new_code_cell
    answer = f"{notebook.signature}\n    # BEGIN SOLUTION\n    {notebook.body}\n    # END SOLUTION"
    cells = [
        raw(f"# ASSIGNMENT CONFIG\nname: {notebook.id}\nexport_cell: false\ncheck_all_cell: false"),
        nbformat.v4.new_markdown_cell(f"# {notebook.title}"),
        *([code(notebook.given)] if notebook.given else []),
        raw("# BEGIN QUESTION\nname: answer\npoints: 1"),
        raw("# BEGIN SOLUTION"), code(answer), raw("# END SOLUTION"),
        raw("# BEGIN TESTS"), code(notebook.test), raw("# END TESTS"),
        raw("# END QUESTION"),
    ]  # fmt: skip
    return nbformat.v4.new_notebook(
        cells=cells,
        metadata={"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}},
    )


def _solved(released: Path, notebook: Notebook) -> NotebookNode:
    found = nbformat.read(released, as_version=4)
    for cell in found.cells:
        if "otter_answer_cell" in cell.metadata.get("tags", []):
            cell.source = f"{notebook.signature}\n    {notebook.body}"
    return found
