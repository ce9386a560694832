"""Edit the frame: the notebook's JSON around wrong answers."""

from __future__ import annotations

import copy
from typing import Any

from tests.attacks.attack import RING, WRONG, Attack, cell_of, cells, edited

Notebook = dict[str, Any]
PASSES = "def ring_all_reduce(tensor):\n    return 'passed'"


def points(nb: Notebook) -> None:
    for cell in nb["cells"]:
        if "nbgrader" in cell["metadata"]:
            cell["metadata"]["nbgrader"]["points"] = 1e9
    cell_of(nb, "check")["metadata"]["nbgrader"]["points"] = float("1e308")
    nb["metadata"]["all_aboard"] |= {"score": 10, "points": {"chunks": 99}, "release": "99"}


def no_check(nb: Notebook) -> None:
    nb["cells"].remove(cell_of(nb, "check"))


def many_checks(nb: Notebook) -> None:
    nb["cells"] += [copy.deepcopy(cell_of(nb, "check")) | {"id": f"c{i}"} for i in range(50)]


def given_code(nb: Notebook) -> None:
    for cell in nb["cells"]:
        if cell["cell_type"] == "code" and cell["metadata"].get("nbgrader", {}).get("locked"):
            cell["source"] = "print('ESC' 'APED locked cell ran')\n" + "".join(cell["source"])
    cell_of(nb, "check")["source"] = "print('ESC' 'APED check cell ran')"


def retyped(nb: Notebook) -> None:
    cell_of(nb, "chunks")["cell_type"] = "markdown"
    cell_of(nb, "ring")["cell_type"] = "raw"
    for cell in nb["cells"]:
        if cell["cell_type"] == "markdown" and cell["metadata"].get("nbgrader", {}).get("locked"):
            cell["cell_type"] = "code"
            cell["source"] = "print('ESC' 'APED statement ran')"


def injected(nb: Notebook) -> None:
    code = "print('ESC' 'APED injected cell ran')"
    for tag in ("injected-parameters", "parameters", "papermill-error-cell-tag"):
        nb["cells"].insert(
            0,
            {
                "cell_type": "code",
                "id": tag,
                "metadata": {"tags": [tag]},
                "source": code,
                "outputs": [],
                "execution_count": None,
            },
        )
    for name in ("chunks", "ring"):
        cell_of(nb, name)["metadata"]["tags"] = ["injected-parameters", "parameters", "try-it"]


def kernelspec(nb: Notebook) -> None:
    nb["metadata"]["kernelspec"] = {"name": "../../bin/sh", "display_name": "sh", "language": "bash"}
    nb["metadata"]["language_info"] = {"name": "bash"}
    nb["metadata"]["papermill"] = {
        "parameters": {"grading": False},
        "output_path": "/etc/passwd",
        "engine": "evil",
    }


def same_ids(nb: Notebook) -> None:
    for cell in nb["cells"]:
        cell["id"] = "same"
    for name in ("chunks", "ring"):
        twin = copy.deepcopy(cell_of(nb, name))
        twin["metadata"]["nbgrader"] |= {"grade": True, "points": 100}
        nb["cells"].insert(0, twin)


def one_answer_thrice(nb: Notebook) -> None:
    good = copy.deepcopy(cell_of(nb, "ring"))
    good["source"] = PASSES
    nb["cells"] = [good, copy.deepcopy(good), *nb["cells"]]


def moved_answers(nb: Notebook) -> None:
    """The marks of the check cell on an answer, of an answer on the check cell, and ids that name no answer."""
    cell_of(nb, "ring")["metadata"]["nbgrader"], cell_of(nb, "check")["metadata"]["nbgrader"] = (
        cell_of(nb, "check")["metadata"]["nbgrader"], cell_of(nb, "ring")["metadata"]["nbgrader"],
    )  # fmt: skip
    nb["cells"][0]["metadata"]["nbgrader"]["grade_id"] = "../../result"


def extra_cells(nb: Notebook) -> None:
    for place in (0, 3, len(nb["cells"])):
        nb["cells"].insert(
            place,
            {
                "cell_type": "code",
                "id": f"x{place}",
                "metadata": {},
                "source": "print('ESC' 'APED extra cell ran')",
                "outputs": [],
                "execution_count": None,
            },
        )


def other_exercise(nb: Notebook) -> None:
    nb["metadata"]["all_aboard"]["exercise"] = "zero"


def odd_metadata(nb: Notebook) -> None:
    nb["metadata"]["all_aboard"] = [1, 2]
    for cell in nb["cells"]:
        cell["metadata"]["nbgrader"] = cell["metadata"].get("nbgrader", {}) | {
            "schema_version": "x",
            "points": "NaN",
            "locked": "no",
        }
        cell["attachments"] = {"../../../x.svg": {"image/svg+xml": "<svg onload=alert(1)>"}}


ATTACKS = [
    Attack("points", "give every cell a billion points", edited(points)),
    Attack("no-check", "delete the check cell", edited(no_check)),
    Attack("many-checks", "fifty check cells", edited(many_checks)),
    Attack("locked-cells", "other code in the locked cells", edited(given_code)),
    Attack("retyped", "answers become text, text becomes code", edited(retyped)),
    Attack("injected", "cells with papermill's tags", edited(injected), kernel=True),
    Attack("kernelspec", "another kernel, other papermill records", edited(kernelspec)),
    Attack("same-ids", "every cell with the same id, answers twice with marks of their own", edited(same_ids)),
    Attack("answer-thrice", "the same answer several times, with different code", edited(one_answer_thrice)),
    Attack("moved-marks", "the check cell's marks on an answer", edited(moved_answers)),
    Attack("extra-cells", "cells between the given ones", edited(extra_cells)),
    Attack("other-exercise", "the notebook of one exercise under another's name", edited(other_exercise), rejected=True),
    Attack("odd-metadata", "metadata of types no reader expects", edited(odd_metadata)),
    Attack("check-in-answer", "an answer that defines the checks, the parameters and the names of given code anew", cells(
        chunks="grading = False\nclass ranks:\n    run = staticmethod(lambda *a, **k: None)\ndef check(*a, **k): print('10 points')\n" + WRONG[RING]["chunks"],
        ring="import autograder\nautograder.check = check\nresult = traffic = memory = lambda *a: 10\n" + WRONG[RING]["ring"])),
]  # fmt: skip
