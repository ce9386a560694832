"""One submission through the whole path, in the real sandbox, under both engines."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from autograder.exercise import Course, Exercise, Limits
from autograder.grade import Grader
from autograder.learner import Learner
from autograder.sandbox.account import below, process_tree
from autograder.sandbox.host import Sandbox
from autograder.sandbox.room_host import SandboxRoom
from autograder.sandbox.warm import WarmServer
from autograder.submission import Submission
from autograder.verdict import Result
from autograder.worker import optimizers_in
from tests.small import small_ring

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(8) as made:
        yield made


@pytest.fixture(scope="module")
def ring() -> Exercise:
    return Course(ROOT).exercise("ring-all-reduce")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Exercise:
    return small_ring(tmp_path_factory.mktemp("course"), wall_s=18)


def grade(sandbox: Sandbox, exercise: Exercise, engine: str = "fork", seed: str = "s", **changed: str):
    answers = exercise.solution()
    for name, extra in changed.items():
        answers[name] = extra.replace("SOLUTION", answers[name])
    return Grader(sandbox, engine, seed).grade_answers("ada", exercise, Submission(answers=answers))


def outputs(notebook: nbformat.NotebookNode) -> list:
    """All outputs. Of an error its name and text: how many lines around it IPython shows depends on the engine."""
    keep = ("output_type", "name", "text", "data", "execution_count", "ename", "evalue")
    return [[{k: v for k, v in o.items() if k in keep} for o in c.get("outputs", [])] for c in notebook.cells]


SAME = {
    "right": {},
    "prints": {"ring": "SOLUTION\nprint('hello')\ntorch.ones(2)"},
    "raises": {"ring": "SOLUTION\n1 / 0"},
    "syntax": {"ring": "def ring_all_reduce(:"},
    "sys-exit": {"chunks": "SOLUTION\nimport sys\nsys.exit(0)"},
    "dies": {"chunks": "SOLUTION\nimport os\nos._exit(0)"},
    "hangs": {"ring": "while True: pass"},
    "hangs-and-does-not-listen": {
        "chunks": "SOLUTION\nwhile True:\n    try:\n        while True: pass\n    except BaseException: pass"
    },
    "stops": {"ring": "SOLUTION\nimport os, signal\nos.kill(os.getpid(), signal.SIGSTOP)"},
    "blank": {"chunks": " \n"},
    "quits": {"ring": "SOLUTION\nquit()"},
    # A kernel reads what other programs print in a thread of its own, which has a second to get there.
    "subprocess": {"ring": "SOLUTION\nimport os, time\n_ = os.system('echo from a shell'); time.sleep(1)"},
}


@pytest.mark.parametrize("name", SAME)
def test_both_engines_give_the_same_outputs_and_the_same_verdict(sandbox, small, name):
    forked, forked_notebook = grade(sandbox, small, "fork", **SAME[name])
    stock, stock_notebook = grade(sandbox, small, "kernel", **SAME[name])
    assert forked.cells == stock.cells
    assert forked.checks == stock.checks
    assert (forked.status, forked.score) == (stock.status, stock.score)
    assert outputs(forked_notebook) == outputs(stock_notebook)


def test_what_a_kernel_takes_to_start_is_not_the_learners_time(sandbox, tmp_path):
    # Of 9 seconds the answer that stops has 3. Those until papermill is ended, too, and until two kernels started, are more.
    result, _ = grade(sandbox, small_ring(tmp_path, wall_s=9), "kernel", **SAME["stops"])
    assert [cell.status for cell in result.cells] == ["ok", "timeout"]


@pytest.mark.parametrize("engine", ["fork", "kernel"])
def test_memory_that_an_answer_takes_before_the_call_counts(sandbox, ring, engine):
    result, _ = grade(sandbox, ring, engine, ring="SOLUTION\n_pool = torch.ones(25 * 2**18)")
    assert [(c.id, c.diagnosis) for c in result.checks if c.status != "pass"] == [
        ("memory", "memory-held-before")
    ]


def test_what_is_given_may_take_a_fresh_kernel_longer_than_an_answer(sandbox, tmp_path):
    slow = small_ring(tmp_path, wall_s=30)  # of which one answer may take 10
    path = slow.folder / "exercise.md"
    given = path.read_text()
    assert given.count("\nimport torch\n") == 1
    # Only there: all other rooms are forks of a process that has imported it.
    wait = "import sys, time; time.sleep(12 if 'ipykernel' in sys.modules else 0)"
    path.write_text(given.replace("\nimport torch\n", f"\n{wait}\nimport torch\n"))
    result, _ = grade(sandbox, slow, "kernel")
    assert (result.status, result.score) == ("graded", result.max_score)


def test_a_right_answer_earns_everything_and_says_how_it_was_graded(sandbox, ring):
    result, notebook = grade(sandbox, ring)
    assert (result.status, result.score, result.max_score) == ("graded", 10, 10)
    assert "bubblewrap" in result.sandbox and result.engine == "fork"
    assert result.resources.cpu_s > 0 and result.resources.peak_rss_bytes > 0
    nbformat.validate(notebook)
    assert Result.model_validate_json(result.model_dump_json(by_alias=True)) == result


def test_the_same_seed_gives_the_same_verdict_and_another_seed_other_draws(sandbox, small):
    wrong = {"ring": "def ring_all_reduce(t):\n    return t"}
    one, again, other = (grade(sandbox, small, seed=s, **wrong)[0] for s in ("one", "one", "other"))
    assert one.checks == again.checks
    assert [c.case for c in one.checks] != [c.case for c in other.checks]


@pytest.mark.parametrize(
    ("answer", "check", "diagnosis", "in_message"),
    [
        ("def ring_all_reduce(t):\n    raise ValueError('no idea')", "result", "raised", "no idea"),
        ("def ring_all_reduce(t):\n    return [1]", "result", "wrong-type", "expected a tensor"),
        ("def ring_all_reduce(t):\n    return torch.zeros(3, 3, 3)", "result", "wrong-shape", "(3, 3, 3)"),
        ("def ring_all_reduce(t):\n    return torch.zeros_like(t, dtype=torch.float16)", "result", "wrong-dtype", "float16"),
        ("def ring_all_reduce(t):\n    return t * float('nan')", "result", "not-a-number", "NaN"),
        ("def ring_all_reduce(t):\n    return torch.zeros(1).expand(2**40)", "result", "unsendable", "bytes"),
        ("def ring_all_reduce(t):\n    return torch.eye(3).to_sparse()", "result", "unsendable", "dense"),
        ("def ring_all_reduce(t):\n    return object()", "result", "unsendable", "object"),
        ("import os\ndef ring_all_reduce(t):\n    os._exit(0)", "result", "died", "ended"),
        ("def ring_all_reduce(t):\n    dist.barrier() if dist.get_rank() else None\n    return t", "result", "deadlock", "barrier"),
        ("def ring_all_reduce(t):\n    return bytearray(10**11)", "result", "out-of-memory", "MemoryError"),
        ("def ring_all_reduce(t):\n    x = []\n    while True:\n        x.append(torch.ones(10**7))", "result", "out-of-memory", "memory"),
        ("def ring_all_reduce(t):\n    t.clone()", "traffic", "misfit", "'NoneType' object has no attribute"),
        ("def ring_all_reduce(t, group):\n    return t", "memory", "misfit", "missing 1 required positional argument: 'group'"),
        ("def ring_all_reduce(t:\n    return t", "result", "missing", "Answer cell ring: SyntaxError: '(' was never closed (line 1)."),
        ("def other(t):\n    return t", "result", "missing", "`ring_all_reduce` is not defined. Its cell ran, so compare the name"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_named(sandbox, ring, answer, check, diagnosis, in_message):
    result, _ = grade(sandbox, ring, ring=answer)
    found = next(c for c in result.checks if c.id == check)
    if diagnosis == "not-a-number":  # whole numbers cannot be NaN: which draw comes first decides
        assert found.diagnosis in ("not-a-number", "wrong-dtype", "wrong-values")
        return
    assert (found.diagnosis, found.status) == (diagnosis, "fail")
    assert in_message in found.message
    assert found.says
    assert result.checks[0].points == 2, "the points of the other answer are kept"


def test_a_cell_that_ends_the_process_keeps_what_the_others_earned(sandbox, small):
    result, _ = grade(sandbox, small, ring="import os\nos._exit(0)")
    assert [c.status for c in result.cells] == ["ok", "error"]
    assert "ended the process" in result.cells[1].message
    assert result.score == 2


def test_a_flood_of_output_is_cut_and_costs_nothing(sandbox, small):
    result, notebook = grade(sandbox, small, ring="SOLUTION\nprint('x' * 10**8)")
    assert result.score == small.max_score
    assert len(nbformat.writes(notebook)) < 2 * 2**20


def test_nothing_is_left_when_a_submission_is_over(sandbox, small):
    before = below(sandbox.server.pid, process_tree())
    source = "SOLUTION\nimport os, time\nfor _ in range(20):\n    if os.fork() == 0:\n        os.setsid(); time.sleep(3600)"
    grade(sandbox, small, chunks=source)
    assert not sandbox.open_rooms
    assert before and below(sandbox.server.pid, process_tree()) == before


def test_in_place_of_a_server_that_has_ended_another_of_the_best_layer_is_started():
    ended = WarmServer("bubblewrap")
    ended.wait()
    ended.close()
    with Sandbox(1, server=ended) as made:
        assert made.layer == "bubblewrap" and made.server is not ended


@pytest.mark.parametrize("optimizers", [True, False])
def test_a_server_loads_what_optimizers_need_where_they_are_asked_for_and_they_work_in_either(optimizers):
    server = WarmServer("bubblewrap", optimizers)
    try:
        with Sandbox(1, server=server) as made:
            assert made.server is server
            room = SandboxRoom(made, Limits(), "")
            room.cells = ["import sys, torch\nbefore = 'torch._dynamo' in sys.modules\n" + STEP]
            learner = Learner(room, lambda: 30.0)
            assert learner.call("step") == [optimizers, 0.5]
            room.close()
    finally:
        server.close()


STEP = """
def step():
    weight = torch.ones(1, requires_grad=True)
    weight.sum().backward()
    torch.optim.SGD([weight], lr=0.5).step()
    return [before, weight.item()]
"""


def test_a_course_says_by_its_texts_whether_it_has_to_do_with_optimizers(tmp_path):
    folder = tmp_path / "exercises" / "one"
    folder.mkdir(parents=True)
    (folder / "exercise.md").write_text("Add two tensors with torch.add.")
    assert not optimizers_in(tmp_path)
    (folder / "drive.py").write_text("optimizer = torch.optim.SGD(parameters)")
    assert optimizers_in(tmp_path) and optimizers_in(ROOT)


ROOM_SEES = """
import os, socket
def chunk_bounds(numel, world_size):
    seen = []
    for place in ("/home", "/root/.ssh", "/work", os.path.dirname(%r)):
        try:
            seen += [os.path.join(place, n) for n in os.listdir(place)]
        except OSError:
            pass
    leaks = [p for p in seen if "exercises" in p or p.endswith((".ipynb", ".toml"))]
    for path in ("/etc/shadow", "/proc/2/mem", "/dev/sda", "/dev/vda"):
        try:
            leaks.append(open(path, "rb").read(10) and path)
        except OSError:
            pass
    for where in (("192.0.2.1", 80), ("10.255.255.53", 53)):
        try:
            socket.create_connection(where, timeout=0.2); leaks.append(where)
        except OSError:
            pass
    for path in ("/usr/x", "/etc/x", "/proc/sys/kernel/hostname", os.path.dirname(os.__file__) + "/x"):
        try:
            open(path, "w"); leaks.append("wrote " + path)
        except OSError:
            pass
    if os.getuid() == 0 or leaks:
        raise RuntimeError(repr(leaks))
    return [(numel * i // world_size, numel * (i + 1) // world_size) for i in range(world_size)]
"""


def test_the_room_shows_no_course_no_home_no_network_and_cannot_be_written(sandbox, ring):
    result, _ = grade(sandbox, ring, chunks=ROOM_SEES % str(ROOT))
    assert result.checks[0].status == "pass", result.checks[0].message


def test_every_rank_counts_on_its_own_wire_and_cannot_talk_its_counters_down(sandbox, ring):
    forged = (
        "import aboard.ranks.meter as _m\n_m.Meter.as_data = lambda self: []\n"
        + next(v for v in ring.variants("wrong") if v.name == "gather_and_broadcast").answers["ring"]
    )
    result, _ = grade(sandbox, ring, ring=forged)
    traffic = next(c for c in result.checks if c.id == "traffic")
    assert traffic.diagnosis == "meters-disagree"  # what it says of itself is no longer even looked at
