"""Real runs with a planted fault, and what their ranks leave behind; and the surroundings of the three mended functions.

`record(cases)` forks gloo ranks for every case, lets them run a small program, and returns one report per case. Each rank
writes down every operation before it calls it and after it came back, into a file: so does PyTorch's flight recorder,
into memory. What a rank wrote is there however it ended.
"""

import faulthandler
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist

HANGS = ("branch", "order", "left", "raised", "shapes")
OPERATIONS = ("all_reduce", "all_gather", "all_to_all", "barrier")
WORK_S, LATE_S = 0.008, 0.032
WARM_UP_S = 0.6  # one such pause in eight steps is more than twice LATE_S in each: it carries the mean away in any run
PATIENCE_S, SETTLE_S = 15, 0.12


def plan(kind, seed, **fixed):
    """A case: which fault is planted where, and the program that has it. kind: one of HANGS, "straggler" or "healthy".

    fixed: what is not to be drawn: rank, exits (the process that left ends, and its connections close), barrier (the
    operation in the branch is one), pace (how many times slower than usual the run is made, its clock with it: what
    else goes on on the machine delays a rank by some milliseconds, and those count for less then).
    """
    dice = random.Random(seed)
    world, steps = dice.choice([3, 4]), dice.randint(6, 8)
    first, second, other = dice.sample(OPERATIONS[:3], 3)
    at = dice.choice([0, 1])  # a fault before the step's first operation or before its second
    # gloo lets a rank leave an all_to_all to which it brings too much
    if kind == "shapes" and (first, second)[at] == "all_to_all":
        first, second = (other, second) if at == 0 else (first, other)
    case = {
        "kind": kind, "world": world, "steps": steps, "step": dice.randint(2, steps - 2), "rank": dice.randrange(world),
        "size": world * dice.randint(20, 400), "exits": dice.random() < 0.5, "seed": dice.getrandbits(30),
        "pace": 1,
    }  # fmt: skip
    if kind == "straggler":
        case["world"] = world = 4
    case |= fixed
    # Beside the slow rank: one that pauses once, one that is slow at the end, and one with less work (or, in a run with
    # nothing wrong, a little more). None of them makes the others wait in most steps.
    others = dice.sample(
        [rank for rank in range(world) if rank != case["rank"] or kind == "healthy"],
        3 if world > 3 or kind == "healthy" else 2,
    )
    case["warm"], case["finisher"], case["unlike"] = (others + [None])[:3]
    here = f"rank == {case['rank']} and step == {case['step']}"
    late = dice.choice([0, 1])
    lines = ["def program(rank, steps, size, call, work):", "    for step in range(steps):"]

    def put(*some):
        lines.extend(["        #"] * dice.randint(0, 3))
        lines.extend("        " + one for one in some)
        return len(lines)  # the number of the last of them

    put("work(0)")
    regular = f"call({first!r}, size)", f"call({second!r}, size)"
    operation, line = (first, second)[late], 0
    for number in (0, 1):
        if number:
            put("work(1)")
        if kind == "order" and number == 0:
            line = put(f"if {here}:", "    " + regular[1])
            put("    " + regular[0])
            operation = second
            put("else:", "    " + regular[0])
            put("    " + regular[1])
            break
        if number == at and kind == "branch":
            operation = "barrier" if fixed.get("barrier", dice.random() < 0.5) else other
            line = put(f"if {here}:", f"    call({operation!r}, size)")
        if number == at and kind in ("left", "raised"):
            operation = (first, second)[at]
            line = put(
                f"if {here}:",
                "    return" if kind == "left" else "    raise ValueError('a sample cannot be read')",
            )
        if number == at and kind == "shapes":
            operation = (first, second)[at]
            line = put(f"if {here}:", f"    call({operation!r}, size + {world * dice.randint(1, 9)})")
            put("else:", "    " + regular[number])
            continue
        here_is = put(regular[number])
        if kind == "straggler" and number == late:
            line = here_is
    lines.append("    work(2)")
    before = 2 * case["step"]
    case["begun"] = [before + 1 + (at if kind not in ("order", "straggler", "healthy") else 0)] * world
    if kind in ("left", "raised"):
        case["begun"][case["rank"]] -= 1
    case["late"], case["source"] = late, "\n".join(lines) + "\n"
    case["truth"] = (
        None
        if kind == "healthy"
        else {"kind": kind, "rank": case["rank"], "operation": operation, "line": line}
    )
    return case


def record(cases):
    """Run all cases side by side; for each its report (see the exercise) and whether it shows what was planted.

    On a machine that is busy with other things every rank is late at times; such a run would blame nobody in particular.
    """
    folder = Path(tempfile.mkdtemp(prefix="recorded-"))
    pids = {}
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        for number, case in enumerate(cases):
            for rank in range(case["world"]):
                pid = os.fork()
                if pid == 0:
                    _be_a_rank(case, rank, folder / str(number))
                pids[number, rank] = pid
        dead = {}
        return [_follow(case, number, folder / str(number), pids, dead) for number, case in enumerate(cases)]
    finally:
        for key, pid in pids.items():
            if key not in dead:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        shutil.rmtree(folder, ignore_errors=True)


def _follow(case, number, place, pids, dead):
    """The report, once the ranks are where the fault leaves them."""
    deadline, settled = time.monotonic() + PATIENCE_S * case["pace"], None
    all_end = case["kind"] in ("straggler", "healthy") or case["kind"] in ("left", "raised") and case["exits"]
    while True:
        for rank in range(case["world"]):
            key = number, rank
            if key not in dead and os.waitpid(pids[key], os.WNOHANG)[0]:
                dead[key] = True
        read = [_read(f"{place}-{rank}") for rank in range(case["world"])]
        over = [
            bool(lines and "state" in lines[-1]) or (number, rank) in dead for rank, lines in enumerate(read)
        ]
        there = [
            over[rank] or sum("begin" in line for line in lines) >= case["begun"][rank]
            for rank, lines in enumerate(read)
        ]
        now = time.monotonic()
        settled = (settled or now) if all(there) else None
        if all(over) or (settled and not all_end and now - settled > SETTLE_S) or now > deadline:
            break
        time.sleep(0.005)
    zero = min(lines[0]["start"] for lines in read if lines) if any(read) else 0
    ranks = [_of_rank(rank, lines, zero, (number, rank) in dead) for rank, lines in enumerate(read)]
    return {"world_size": case["world"], "ranks": ranks}, _clear(case, ranks)


def _clear(case, ranks):
    """Whether the report shows what was planted, and nothing else, with room to spare: then every right rule finds it."""
    if case["kind"] in HANGS:
        waits = any(one["state"] == "waiting" for one in ranks)
        return [len(one["ops"]) for one in ranks] == case["begun"] and not (
            waits and case["kind"] in ("left", "raised") and case["exits"]
        )
    if any(one["state"] != "returned" for one in ranks):
        return False
    for part in (0, 1):
        work, waits = zip(*(_seconds(one["ops"], part) for one in ranks), strict=True)
        usual, waited = [median(one) for one in work], [median(one) for one in waits]
        planted = case["kind"] == "straggler"
        if planted and not usual[case["unlike"]] < 0.6 * min(usual[case["warm"]], usual[case["finisher"]]):
            return False
        # Where nothing is wrong, the slowest in most steps is not the one that paused once: the two mistakes differ then.
        if not planted and max(range(len(ranks)), key=usual.__getitem__) != case["unlike"]:
            return False
        if planted and part == case["late"]:
            by_step = list(zip(*work, strict=True))
            others = [
                [seconds for rank, seconds in enumerate(step) if rank != case["rank"]] for step in by_step
            ]
            clearly = sum(
                step[case["rank"]] > 2.5 * max(rest) for step, rest in zip(by_step, others, strict=True)
            )
            if (
                clearly < 0.7 * len(by_step)
                or max(range(len(ranks)), key=waited.__getitem__) != case["unlike"]
            ):
                return False
        else:
            *_, second, slowest = sorted(usual)
            if slowest > 1.6 * second or max(waited) > 0.012:
                return False
    return True


def _seconds(ops, part):
    """What a rank spent before the first or the second operation of each step, and in it."""
    ends = [0.0] + [op["end"] for op in ops]
    pairs = list(zip(ops, ends, strict=False))[part::2]
    return [op["begin"] - before for op, before in pairs], [op["end"] - op["begin"] for op, _ in pairs]


def _of_rank(rank, lines, zero, dead):
    ops = []
    found = {
        "rank": rank,
        "state": "died" if dead else "waiting",
        "line": 0,
        "error": "",
        "seconds": None,
        "ops": ops,
    }
    for line in lines:
        if "begin" in line:
            ops.append(line | {"number": len(ops), "begin": round(line["begin"] - zero, 6), "end": None})
            found["line"] = line["line"]
        elif "end" in line:
            ops[-1]["end"] = round(line["end"] - zero, 6)
        elif "state" in line:
            found |= line | {"seconds": round(line["seconds"] - zero, 6)}
    return found


def _read(path):
    try:
        text = Path(path).read_text()
    except OSError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _be_a_rank(case, rank, place):
    """In a forked process: run the program, write down what it does, and end or stay, as the case says."""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        quiet = os.open(os.devnull, os.O_RDWR)
        for number in (1, 2):
            os.dup2(quiet, number)
        faulthandler.disable()  # gloo ends ranks that disagree: part of the case, and no news for whoever records it
        torch.set_num_threads(1)
        os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
        dist.init_process_group(
            "gloo", store=dist.FileStore(f"{place}-store", case["world"]), rank=rank, world_size=case["world"]
        )
        _run_program(case, rank, os.open(f"{place}-{rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        if case["kind"] in ("left", "raised") and not case["exits"]:
            time.sleep(PATIENCE_S + 5)  # the program has ended, its process has not: a thread of it goes on
    finally:
        os._exit(0)


def _run_program(case, rank, log):
    def now():
        return time.monotonic() / case["pace"]

    def write(**line):
        if "state" in line:
            line["seconds"] = now()
        os.write(log, json.dumps(line).encode() + b"\n")

    def call(op, size):
        line = sys._getframe(1).f_lineno
        write(begin=now(), op=op, size=size if op != "barrier" else 0, line=line)
        _call(op, size, case["world"])
        write(end=now())

    dice, begun = random.Random(case["seed"] + rank), [0]

    def work(part):
        seconds = WORK_S * dice.uniform(0.9, 1.1)
        if case["kind"] == "straggler" and rank == case["rank"] and part == case["late"]:
            seconds = LATE_S
        if case["kind"] in ("straggler", "healthy") and rank == case["warm"] and begun[0] == 0:
            seconds = WARM_UP_S  # once: something is compiled, a file is opened
        elif case["kind"] in ("straggler", "healthy"):
            if rank == case["finisher"] and part == 2:
                seconds = WARM_UP_S / 3  # it writes the log
            elif rank == case["unlike"]:
                seconds *= 0.25 if case["kind"] == "straggler" else 1.35
        else:
            seconds /= 8
        begun[0] += 1
        time.sleep(seconds * case["pace"])

    names = {}
    exec(compile(case["source"], "program", "exec"), names)
    last = [0]

    def watch(frame, event, _):
        if event == "return" and frame.f_code.co_filename == "program":
            last[0] = frame.f_lineno

    dist.barrier()
    write(start=now())
    sys.setprofile(watch)
    try:
        names["program"](rank, case["steps"], case["size"], call, work)
    except Exception as error:
        sys.setprofile(None)
        place = error.__traceback__
        while place and place.tb_frame.f_code.co_filename != "program":
            place = place.tb_next
        write(
            state="raised",
            line=place.tb_lineno if place else 0,
            error=f"{type(error).__name__}: {str(error)[:60]}",
        )
    else:
        sys.setprofile(None)
        write(state="returned", line=last[0])


def _call(op, size, world):
    tensor = torch.zeros(size)
    if op == "all_reduce":
        dist.all_reduce(tensor)
    elif op == "all_gather":
        dist.all_gather([torch.empty(size) for _ in range(world)], tensor)
    elif op == "all_to_all":
        dist.all_to_all_single(torch.empty(size), tensor)
    else:
        dist.barrier()


# --- beside the learner's functions


def name_all(answers, reports):
    """What `diagnose` says of each report."""
    return [answers.diagnose(report) for report in reports]


def train(answers, values, every):
    """The learner's training loop, with a `save` that keeps what it is handed."""
    saved = []
    total = answers.train_and_save(values, every, lambda value: saved.append(value.clone()))
    return {"total": total, "saved": saved}
