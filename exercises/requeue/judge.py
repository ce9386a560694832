"""Judge of "Checkpoint, time limit, requeue"."""

import json
import re
from pathlib import Path

import torch

from autograder import expect
from autograder.expect import Finding
from autograder.judge import check, load_module

drive = load_module(Path(__file__).with_name("drive.py"), "drive_of_requeue")

TRAINED = {
    "first": int, "resumed": bool, "losses": [float], "taken": [[int]], "weights": torch.Tensor, "files": {str: torch.Tensor}
}  # fmt: skip
FOUND = {"step": int, "weights": torch.Tensor, "error": str}
TIMES = 15  # that `interrupted` of drive.py ends a save
ENDS = 8  # times that the grader ends a save
LARGE = 14_000  # hidden units: a checkpoint of 2.7 MB, which takes a while to write
PARTS = {
    "model": "no-weights", "optimizer": "no-optimizer", "scheduler": "no-schedule", "order": "no-order", "generator": "no-randomness"
}  # fmt: skip
STEP_S = 60  # for a job to start, or to end, on a machine that is busy with other things


@check("saved on 4 ranks and loaded on 2, the training goes on as if nothing had been")
def curve(learner, draw):
    case = Curve(draw)
    goes_on(learner, draw, case)


@check("who is ended while saving leaves a checkpoint that can be used")
def interrupted(learner, draw):
    earlier, seed = draw.integer(2, 5), draw.seed()
    later = earlier + draw.integer(1, 3)
    draw.case(f"a checkpoint of step {earlier}, and one of step {later} that is not finished")
    begin, again = begins(draw), begins(draw)
    run = learner.on_ranks(1).drive(
        "interrupted",
        seed=seed,
        begin=begin,
        again=again,
        earlier=earlier,
        later=later,
        returns={"found": [FOUND]},
    )
    right = {step: reference(seed, begin, step)[2] for step in (earlier, later)}
    expect.that(len(run.outputs[0]["found"]) == TIMES, "answered-in-its-place", "it was not ended so often")
    for found in run.outputs[0]["found"]:
        can_be_used(found, right)
    ended_by_the_grader(learner, draw)


def ended_by_the_grader(learner, draw):
    """The same, where nothing in the rank's process decides when it ends, or knows.

    Each time it is ended some moments after the next of the changes that follow each other in its folder. A save that leaves
    nothing usable for most of its time is met almost surely; what is missing for a fraction of a millisecond may escape, and
    shows where drive.py ends a save.
    """
    steps, seed = draw.integer(1, 3), draw.seed()
    begin, again = (begins(draw, hidden=LARGE) for _ in range(2))
    alone = learner.on_ranks(1)
    settings = {"seed": seed, "begin": begin, "steps": steps}
    draw.case(
        f"a checkpoint of step {steps}, then one after each step, until the process is ended from outside"
    )
    kept = alone.drive_in_folder("save_once", {}, **settings).kept[0]
    if kept.opened is None:
        return  # on a machine whose kernel tells nothing of folders, where learners check their own work
    first = draw.integer(1, 8)
    runs = [
        alone.ended_while("save_on", kept.files, after, **settings, steps_at_most=drive.MOST_SAVES, says=int)
        for after in range(first, first + ENDS)
    ]
    training = drive.Training(seed, begin)
    for _ in range(steps):
        training.one_step()
    right = {steps: training.weights()}
    for _ in range(drive.MOST_SAVES):
        training.quick_step()
        right[training.step] = training.weights()
    for run in runs:
        left, saved = run.kept[0].files, max([steps, *run.said[0]])
        expect.that(saved in right, "answered-in-its-place", f"it says that it saved step {saved}")
        found = alone.drive_in_folder("load_from", left, seed=seed, again=again, returns=FOUND).outputs[0]
        # The one that was being written may be whole already.
        can_be_used(found, {step: right[step] for step in (saved, saved + 1) if step in right})


def can_be_used(found, right):
    """right: step → weights, of all that may be found."""
    expect.that(not found["error"], "broken-checkpoint", f"`load` raised {found['error']}")
    expect.that(len(found["weights"]) > 0, "lost-checkpoint", "`load` found none afterwards")
    want, got = right.get(found["step"]), found["weights"]
    whole = want is not None and got.shape == want.shape and torch.allclose(got, want, rtol=1e-9, atol=1e-9)
    expect.that(whole, "mixed-checkpoint", "the weights are not those of the step that it says")


@check("one rank is told to stop, and all stop after the same step")
def together(learner, draw):
    steps = 6
    for who in (draw.integer(1, 2), 0, -1):
        when = draw.integer(1, 3)
        # Only the one that is told knows of it; the others have to hear it from that one.
        whens = [when if rank == who else -1 for rank in range(3)]
        draw.case(
            f"3 ranks, {f'rank {who} told in step {when + 1} of {steps}' if who >= 0 else 'nobody told'}"
        )
        try:
            told = [
                one["told"]
                for one in learner.on_ranks(3)
                .drive("stopping", whens, steps=steps, returns={"told": [bool]})
                .outputs
            ]
        except Finding as finding:
            raise (
                Finding("no-handler", finding.message)
                if finding.diagnosis == "died" and who >= 0
                else finding
            ) from None
        first = [one.index(True) if True in one else None for one in told]
        if who < 0:
            expect.that(
                not any(map(any, told)),
                "stops-unasked",
                f"rank {next((r for r, f in enumerate(first) if f is not None), 0)} stopped",
            )
            continue
        if first == [None] * 3:
            raise Finding(
                "never-stops" if who == 0 else "rank-zero-only", f"rank {who} was told, and no rank stopped"
            )
        if len(set(first)) > 1:
            raise Finding(
                "one-rank-stops",
                "; ".join(
                    f"rank {r} {'after step ' + str(f + 1) if f is not None else 'never'}"
                    for r, f in enumerate(first)
                ),
            )
        expect.that(when <= first[0] <= when + 1, "never-stops", f"they stopped after step {first[0] + 1}")


@check("the job saves when it is told, is requeued, and goes on with 2 ranks instead of 4", about="records")
def requeued(learner, draw):
    case = Curve(draw)
    try:
        goes_on(learner, draw, case)
    except Finding as finding:
        raise Finding("result-first", finding.message) from None
    minutes, account = draw.integer(5, 20), f"EUHPC_D{draw.integer(10, 99)}_{draw.integer(100, 999)}"
    draw.case(f"2 nodes with 2 ranks each, told after some steps; then 1 node, {drive.STEPS} steps in all")
    scripts = [learner.call("job_script", nodes, 2, minutes, account) for nodes in (2, 1)]
    for script in scripts:
        if type(script) is not str:
            raise Finding(
                "wrong-type", f"`job_script` returned {type(script).__name__}, and a script is a text"
            )
    asks_for_a_signal(scripts[0])
    cluster = learner.supercomputer(2, "leonardo")
    cluster.put("train.py", Path(drive.__file__).read_text(encoding="utf-8"))
    cluster.put("answers.py", learner.program())
    cluster.put("settings.json", json.dumps({"seed": case.seed, "begin": plain(case.begin), "pause": 0.2}))
    first = submitted(cluster, scripts[0])
    if not cluster.until(f"at-{first}.json", '"step": ', STEP_S):
        record = cluster.wait([first], 0)[0]
        raise Finding("failed" if record["over"] else "too-slow", last_line(record["output"]))
    cluster.signal(first, "USR1")
    saved = was_requeued(cluster, first)
    cluster.cancel(first)
    cluster.put("settings.json", json.dumps({"seed": case.seed, "begin": plain(case.again), "pause": 0.0}))
    second = submitted(cluster, scripts[1])
    record = cluster.wait([second], STEP_S)[0]
    expect.that(record["over"], "too-slow", f"the second job is {record['state'].lower()}")
    expect.that(record["state"] == "COMPLETED", "failed", last_line(record["output"]))
    began, done = said(cluster, f"began-{second}.json"), said(cluster, f"done-{second}.json")
    expect.that(
        began.get("step") == saved,
        "starts-anew",
        f"it was saved after step {saved}, and began at step {began.get('step')}",
    )
    expect.that(began.get("world") == 2, "failed", f"it ran on {began.get('world')} ranks")
    losses = done.get("losses")
    if not isinstance(losses, list) or not all(isinstance(one, float) for one in losses):
        raise Finding("failed", last_line(record["output"]))
    whole, _, _ = reference(case.seed, case.begin, drive.STEPS)
    compare(losses, whole[saved:], case, saved)


def begins(draw, hidden=8):
    """Where a training begins: handed to those who begin there, and to nobody else."""
    return {"weights": draw.tensor(drive.weights_of(hidden), dtype=torch.float64), "noise": draw.seed()}


def plain(begin):
    return begin | {"weights": begin["weights"].tolist()}


class Curve:
    """A run of `until` steps, interrupted after `at`. It begins at `begin`; what goes on has begun at `again`."""

    def __init__(self, draw):
        self.seed, self.begin, self.again = draw.seed(), begins(draw), begins(draw)
        self.at, self.until = draw.integer(7, 9), draw.integer(14, 17)


def goes_on(learner, draw, case):
    draw.case(
        f"4 ranks for {case.at} steps, then 2 ranks to step {case.until}; an epoch has {drive.SAMPLES // drive.BATCH} steps"
    )
    begin = (
        learner.on_ranks(4)
        .drive("train", seed=case.seed, begin=case.begin, files={}, until=case.at, returns=TRAINED)
        .outputs
    )
    expect.that(not begin[0]["resumed"], "starts-anew", "`load` found a checkpoint in an empty folder")
    files = {}
    for one in reversed(begin):
        files |= one["files"]
    expect.that(bool(files), "starts-anew", "`save` wrote no file")
    after = (
        learner.on_ranks(2)
        .drive("train", seed=case.seed, begin=case.again, files=files, until=case.until, returns=TRAINED)
        .outputs
    )
    losses, taken, weights = reference(case.seed, case.begin, case.until)
    firsts = [one["first"] for one in after]
    if firsts != [case.at] * 2:
        if 0 in firsts and case.at in firsts:
            raise Finding("not-on-every-rank", f"the ranks began at steps {firsts[0]} and {firsts[1]}")
        same = same_as(PARTS, after[0]["losses"], case)
        raise Finding(
            "no-step" if same or all(one["resumed"] for one in after) else "starts-anew",
            f"it went on at step {firsts[0]} instead of {case.at}",
        )
    got = after[0]
    if not torch.equal(after[0]["weights"], after[1]["weights"]):
        raise Finding("not-on-every-rank", "the weights of the ranks are not the same after the restart")
    if got["taken"] != taken[case.at :]:
        raise Finding(
            "no-order",
            f"the first batch after the restart had the samples {', '.join(map(str, got['taken'][0][:4]))} …",
        )
    compare(got["losses"], losses[case.at :], case, case.at)
    expect.close(got["weights"], weights, "the weights at the end", terms=1000)


def compare(got, want, case, at):
    """Losses after a restart at step `at`, against those of a run without one."""
    got, want = torch.tensor(got, dtype=torch.float64), torch.tensor(want, dtype=torch.float64)
    if got.shape == want.shape and torch.allclose(got, want, rtol=1e-6, atol=1e-9):
        return
    for part, diagnosis in PARTS.items():
        if got.shape == want.shape and torch.allclose(
            got,
            torch.tensor(without(part, case, at, at + len(want)), dtype=torch.float64),
            rtol=1e-6,
            atol=1e-9,
        ):
            raise Finding(diagnosis, f"the loss of step {at + 1} is {got[0]:.4f}")
    shown = f"the loss of step {at + 1} is {got[0]:.4f}" if len(got) else "there were no steps"
    raise Finding("other-curve", shown)


def same_as(parts, losses, case):
    whole, _, _ = reference(case.seed, case.begin, case.at + len(losses))
    return len(losses) > 0 and abs(losses[0] - whole[case.at]) < 1e-6 * abs(whole[case.at])


def reference(seed, begin, steps):
    """Losses, samples and weights of one process that is never interrupted."""
    training = drive.Training(seed, begin)
    ran = [training.one_step() for _ in range(steps)]
    return [loss for loss, _ in ran], [taken for _, taken in ran], training.weights()


def without(part, case, at, until):
    """Losses after a restart at `at` that has lost one part of the state."""
    old, new = drive.Training(case.seed, case.begin), drive.Training(case.seed, case.again)
    for _ in range(at):
        old.one_step()
    for name in ("model", "optimizer", "scheduler", "order"):
        if name != part:
            getattr(new, name).load_state_dict(getattr(old, name).state_dict())
    if part == "scheduler":
        # The optimizer's state has a learning rate, too, which the schedule overwrites after the first step.
        pass
    if part != "generator":
        new.generator.set_state(old.generator.get_state())
    return [new.one_step()[0] for _ in range(until - at)]


def asks_for_a_signal(script):
    asked = re.search(r"^#SBATCH\s+(?:.*\s)?--signal[= ](\S+)", script, re.MULTILINE)
    if not asked:
        raise Finding("no-signal", "no line says --signal")
    if not asked[1].startswith("B:") and not re.match(r"[R]?B", asked[1]):
        raise Finding("signal-not-to-shell", f"it says --signal={asked[1]}")
    name, _, seconds = asked[1].rpartition(":")[2].partition("@")
    if name.upper().removeprefix("SIG") not in ("USR1", "10") or seconds != "120":
        raise Finding("no-signal", f"it says --signal={asked[1]}")


def submitted(cluster, script):
    answer = cluster.submit(script)
    if "refused" in answer:
        raise Finding("refused", last_line(answer["refused"]))
    return answer["job"]


def was_requeued(cluster, job):
    """The step after which the job saved. Waits until Slurm has it back in the queue."""
    for _ in range(10 * STEP_S):
        record = cluster.wait([job], 0)[0]
        if record["over"] or record["restarts"]:
            break
        cluster.until("-", "-", 0.1)
    if record["over"] and record["signal"] == 10:
        raise Finding("shell-ended", "the script ended by signal 10, which is USR1")
    stopped, done = said(cluster, f"stopped-{job}.json"), said(cluster, f"done-{job}.json")
    if done:
        raise Finding(
            "trap-too-late" if record["restarts"] else "nothing-saved", "the training ran to its end"
        )
    if not record["over"] and not record["restarts"]:
        raise Finding("too-slow", f"it is {record['state'].lower()} {STEP_S} s after the signal")
    if not stopped:
        if record["restarts"]:
            raise Finding(
                "nothing-saved", f"it was requeued, and no rank had saved. {last_line(record['output'])}"
            )
        raise Finding(
            "nothing-saved",
            f"it is {record['state'].lower()}, and no rank had saved. {last_line(record['output'])}",
        )
    if stopped.get("state") != "RUNNING":
        # Slurm tells the ranks as well, when it ends them for the requeue; they have some seconds, and not what was asked for.
        raise Finding(
            "nothing-saved",
            f"the ranks heard of it from Slurm, which was ending them already: the job was {str(stopped.get('state')).lower()}",
        )
    if not record["restarts"]:
        raise Finding(
            "not-requeued", f"it saved after step {stopped.get('step')}, and is {record['state'].lower()}"
        )
    return stopped.get("step")


def said(cluster, name):
    try:
        value = json.loads(cluster.read(name).get(name, ""))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def last_line(text):
    """The last words of a job: a program's, rather than what Slurm says of them."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    own = [line for line in lines if not line.startswith(("srun: ", "slurmstepd", "[W"))]
    return (own or lines or ["It printed nothing."])[-1][:300]
