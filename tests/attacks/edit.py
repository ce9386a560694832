"""Edit the frame: points, cells, tags, kernels, identities of a released notebook."""

import copy

from tests.attacks.attack import Attack


def cell(notebook, name):
    return next(c for c in notebook["cells"] if c["metadata"].get("nbgrader", {}).get("grade_id") == name)


def more_points(notebook):
    for one in notebook["cells"]:
        if "nbgrader" in one["metadata"]:
            one["metadata"]["nbgrader"] |= {"points": 1000, "grade": True}
    return notebook


def no_check_cells(notebook):
    notebook["cells"] = [c for c in notebook["cells"] if c["metadata"].get("nbgrader", {}).get("solution")]
    return notebook


def check_cell_that_passes(notebook):
    cell(notebook, "check")["source"] = "print('all checks passed')"
    return notebook


def answers_in_locked_cells(notebook):
    for one in notebook["cells"]:
        if one["cell_type"] == "code" and not one["metadata"].get("nbgrader", {}).get("solution"):
            one["source"] = "import torch\nimport torch.distributed as dist\ndef all_reduce(t):\n    dist.all_reduce(t)\n    return t\n"
    cell(notebook, "ring")["source"] = "ring_all_reduce = all_reduce"
    return notebook


def two_of_each_answer(notebook):
    notebook["cells"] += copy.deepcopy(notebook["cells"])
    return notebook


def one_id_for_all(notebook):
    for one in notebook["cells"]:
        one["id"] = "same"
    return notebook


def answers_as_text(notebook):
    for one in notebook["cells"]:
        if one["metadata"].get("nbgrader", {}).get("solution"):
            one["cell_type"] = "markdown"
            one.pop("outputs", None), one.pop("execution_count", None)
    return notebook


def tagged_as_parameters(notebook):
    for one in notebook["cells"]:
        one["metadata"]["tags"] = ["injected-parameters", "parameters", "try-it"]
    return notebook


def another_kernel(notebook):
    notebook["metadata"]["kernelspec"] = {"name": "bash", "display_name": "Bash", "language": "bash"}
    notebook["metadata"]["language_info"] = {"name": "bash"}
    return notebook


def another_exercise(notebook):
    notebook["metadata"]["all_aboard"] = {"exercise": "../../etc", "release": "-1", "max_score": 0}
    return notebook


def cells_in_between(notebook):
    made = [{"cell_type": "code", "id": f"x{i}", "metadata": {}, "outputs": [], "execution_count": None,
             "source": "import os\nos._exit(0)"} for i in range(5)]  # fmt: skip
    notebook["cells"] = made + notebook["cells"]
    return notebook


def forged_outputs(notebook):
    for one in notebook["cells"]:
        if one["cell_type"] == "code":
            one["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "10/10"}]
            one["execution_count"] = 7
    return notebook


def answer_renamed(notebook):
    cell(notebook, "ring")["metadata"]["nbgrader"]["grade_id"] = "chunks"
    return notebook


def no_metadata(notebook):
    for one in notebook["cells"]:
        one["metadata"] = {}
    return notebook


def hidden_in_attachments(notebook):
    cell(notebook, "ring")["attachments"] = {"a.png": {"image/png": "x" * 1000}}
    return notebook


BENT = [
    more_points, no_check_cells, check_cell_that_passes, answers_in_locked_cells, two_of_each_answer, one_id_for_all,
    answers_as_text, tagged_as_parameters, another_kernel, another_exercise, cells_in_between, forged_outputs, answer_renamed,
    no_metadata, hidden_in_attachments,
]  # fmt: skip
ATTACKS = [Attack(bend.__name__, bend=bend) for bend in BENT]
ATTACKS += [
    Attack("a_cell_of_shell", "%%bash\necho 10/10 > result.json\nexit 0"),
    Attack("a_cell_of_another_file", "%load /etc/passwd\n%run /usr/lib/python3/dist-packages/x.py\n!kill -9 1\n!!cat /etc/shadow"),
    Attack("a_future_import", "from __future__ import annotations\nimport os\nos.environ['GRADING'] = '1'"),
    Attack("code_after_the_stub_of_another_answer", "def chunk_bounds(n, w):\n    raise SystemExit"),
    Attack("a_cell_of_a_megabyte", "x = '" + "y" * 1_000_000 + "'"),
]  # fmt: skip
