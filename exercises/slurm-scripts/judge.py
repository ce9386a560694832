"""Judge of "Job scripts for Slurm".

A script may write into any file whatever it likes. So what runs, on which node and with which variables is not read from
files: while `train.py` waits, the kernel is asked. Slurm's own records and the bytes on the links are taken beside that.
"""

import json
from pathlib import Path

from autograder import expect
from autograder.expect import Finding
from autograder.judge import check

PROGRAM = Path(__file__).with_name("drive.py").read_text(encoding="utf-8")
ACCOUNT = "EUHPC_D{:02d}_{:03d}"
# Seconds of doing nothing; a job that goes well takes a second, with torchrun six, and computes most of it
JOB_S = 12
PAYLOAD = 1 << 20


@check("the machine takes the scripts, with what was asked for", about="records")
def accepted(learner, draw):
    case = Case(learner, draw, "rank_script")
    record = case.submit(seconds=0)
    learner.supercomputer(2, "leonardo").cancel(record["id"])
    minutes = record["minutes"]
    expect.that(
        minutes not in (60 * case.minutes, 1440 * case.minutes),
        "minutes-as-hours",
        f"its limit is {minutes} minutes",
    )
    expect.that(minutes == case.minutes, "no-time", f"its limit is {minutes} minutes")
    expect.that(len(record["nodes"]) == case.nodes, "wrong-nodes", f"it has {len(record['nodes'])}")
    expect.that(record["gpus"] > 0, "no-gpus", "its record says so")
    expect.that(
        record["gpus"] == case.nodes * case.gpus,
        "wrong-gpus",
        f"it has {record['gpus']} on {expect.count(case.nodes, 'node')}",
    )
    expect.that(
        record["account"] == case.account.lower(), "no-account", f"it is charged to {record['account']!r}"
    )


@check("there is one rank for each GPU, each with its own numbers", about="records")
def ranks(learner, draw):
    case = Case(learner, draw, "rank_script", gpus=draw.integer(2, 4))
    case.submit(JOB_S)
    case.every_rank_once()


@check("ranks on several nodes meet, and two jobs can share a node", about="communication")
def rendezvous(learner, draw):
    before = learner.supercomputer(2, "leonardo").carried()
    first, second = (Case(learner, draw, "rank_script", gpus=2) for _ in range(2))
    first.submit(0)
    second.submit(0)
    watch([first, second], JOB_S)
    for case in (first, second):
        case.first_every_rank_once()
    # Before anything that follows from it: whether two jobs at one port fail depends on which of them ends before the other begins.
    ports = {one["MASTER_PORT"] for one in first.seen()}, {one["MASTER_PORT"] for one in second.seen()}
    expect.that(not ports[0] & ports[1], "fixed-port", f"both jobs met at port {', '.join(sorted(ports[0]))}")
    for case in (first, second):
        case.everybody_met()
    after = learner.supercomputer(2, "leonardo").carried()
    for node in after:
        # The two ranks of the second node send their bytes to rank 0, and get as many back; in both jobs.
        carried = min(after[node][way] - before[node][way] for way in (0, 1))
        expect.at_least(carried, 0.97 * 4 * PAYLOAD, f"bytes on the link of {node}", "nobody-met")


@check("torchrun, once on each node, starts the same ranks", about="communication")
def torchrun(learner, draw):
    before = learner.supercomputer(2, "leonardo").carried()
    case = Case(learner, draw, "torchrun_script", gpus=2)
    record = case.submit(0)
    expect.that(
        record["tasks"] <= case.nodes,
        "tasks-times-gpus",
        f"{record['tasks']} tasks on {expect.count(case.nodes, 'node')} start it",
    )
    case.wait(JOB_S, patient=True)
    seen = case.seen()
    if seen:
        expect.that(
            all(one["torchrun"] for one in seen), "no-torchrun", f"{len(seen)} processes ran the program"
        )
        worlds = sorted(one["RANK"] for one in seen)
        if len(seen) == case.nodes * case.gpus and worlds.count("0") == case.nodes > 1:
            raise Finding("separate-worlds", f"{case.nodes} of {len(seen)} processes are rank 0")
    case.every_rank_once()
    case.everybody_met()
    after = learner.supercomputer(2, "leonardo").carried()
    for node in after:
        carried = min(after[node][way] - before[node][way] for way in (0, 1))
        expect.at_least(carried, 0.97 * 2 * PAYLOAD, f"bytes on the link of {node}", "nobody-met")


@check("many small jobs are one array, with a limit on how many run at once", about="records")
def array(learner, draw):
    last, at_once = draw.integer(3, 5), draw.integer(2, 3)
    case = Case(learner, draw, "array_script", values=(last, at_once))
    draw.case(f"tasks 0 to {last}, {at_once} at a time")
    record = case.submit(JOB_S)
    tasks = record.get("array", [record] if record["index"] else [])
    expect.that(bool(tasks), "no-array", f"job {record['name']} is a single one")
    numbers = sorted(int(one["index"]) for one in tasks if one["index"].isdigit())
    expect.that(
        numbers == list(range(last + 1)), "array-off-by-one", f"they are {', '.join(map(str, numbers))}"
    )
    limits = {one["at_once"] for one in tasks}
    expect.that(
        limits <= {str(at_once)},
        "no-limit" if limits <= {"", "0"} else "wrong-limit",
        f"the record says {', '.join(sorted(limits)) or 'nothing'}",
    )
    for one in tasks:
        case.came_through(one)
        expect.that(
            one["gpus"] == 1,
            "no-gpus" if not one["gpus"] else "wrong-gpus",
            f"task {one['index']} has {one['gpus']}",
        )
    for one in tasks:
        mine = [
            found["arguments"]
            for found in case.processes()
            if found["variables"].get("SLURM_JOB_ID") == str(one["id"])
        ]
        expect.that(
            mine == [[one["index"]]],
            "wrong-argument",
            f"task {one['index']} ran it with {mine[0] if mine else 'nothing'}",
        )


class Case:
    """One job: what is drawn, the script that the learner writes for it, and what is to be known of its run."""

    def __init__(self, learner, draw, function, gpus=None, values=None):
        self.cluster = learner.supercomputer(2, "leonardo")
        self.nodes, self.gpus = 2, gpus or draw.integer(2, 3)
        self.minutes = draw.integer(3, 23)  # as hours, still within the limit of the machine
        self.account = ACCOUNT.format(draw.integer(1, 99), draw.integer(1, 999))
        first = values or (self.nodes, self.gpus)
        draw.case(
            f"{expect.count(self.nodes, 'node')}, {expect.count(self.gpus, 'GPU')} each, {self.minutes} minutes"
        )
        self.script = learner.call(function, *first, self.minutes, self.account)
        if type(self.script) is not str:
            raise Finding(
                "wrong-type", f"`{function}` returned {type(self.script).__name__}, and a script is a text"
            )
        self.record = {}

    def submit(self, seconds):
        """Hand the script in; its record after at most so many seconds, or at once."""
        self.cluster.put("train.py", PROGRAM)
        answer = self.cluster.submit(self.script)
        if "refused" in answer:
            said = answer["refused"]
            raise Finding("no-account" if "no account" in said else "refused", last_line(said))
        self.number = answer["job"]
        if seconds:
            return self.wait(seconds)
        self.record = self.cluster.wait([self.number], 0)[0]
        for _ in range(300):  # until it has started: it is alone, or there is room for it
            if self.record["nodes"] or self.record["over"]:
                break
            self.cluster.until("-", "-", 0.1)
            self.record = self.cluster.wait([self.number], 0)[0]
        return self.record

    def wait(self, seconds, patient=False):
        """Its record when it is over. patient: what it did says more than that it failed."""
        watch([self], seconds)
        if not patient or self.record["state"] == "COMPLETED":
            return self.record
        if not self.record["over"] and not self.processes():
            raise Finding(
                "too-slow",
                f"it is {self.record['state'].lower()} after {seconds} s. {last_line(self.record['output'])}",
            )
        return self.record

    def processes(self):
        """The processes of this job that ran train.py, as the kernel had them."""
        return self.record.get("processes", [])

    def came_through(self, record):
        if not record["over"]:
            raise Finding("too-slow", f"it is {record['state'].lower()} after {JOB_S} s")
        if record["state"] != "COMPLETED":
            raise Finding("failed", f"{record['state'].lower()}. {last_line(record['output'])}")

    def files(self, kind):
        """What the processes of this job wrote, by the names of the files."""
        found = {}
        for name, text in self.cluster.read(f"{kind}-{self.number}-*.json").items():
            try:
                value = json.loads(text)
            except ValueError:
                continue
            if isinstance(value, dict):
                found[name] = value
        return found

    def seen(self):
        """Of each process that ran train.py its variables, its "host", and whether torchrun had started it."""
        return [
            {name: one["variables"].get(name, "") for name in NAMES}
            | {"host": one["node"], "torchrun": "TORCHELASTIC_RUN_ID" in one["variables"]}
            for one in self.processes()
        ]

    def first_every_rank_once(self):
        try:
            self.every_rank_once()
        except Finding as finding:
            raise Finding("result-first", finding.message) from None

    def every_rank_once(self):
        """One process for each GPU, with the variables of its own rank."""
        seen, world = self.seen(), self.nodes * self.gpus
        if not seen:
            self.came_through(self.record)
            raise Finding("no-srun", "the job ended well, and nobody ran train.py")
        number = len(seen)
        if number == 1 and world > 1:
            raise Finding("no-srun", f"one process ran train.py, on {seen[0]['host']}")
        if number == self.nodes < world:
            raise Finding(
                "one-per-node",
                f"{number} processes ran train.py; {expect.count(world, 'GPU')} were asked for",
            )
        if number != world:
            raise Finding(
                "wrong-number",
                f"{number} processes ran train.py; {expect.count(world, 'GPU')} were asked for",
            )
        for name in NAMES:
            for one in seen:
                if not one[name]:
                    raise Finding("unset", f"{name} was empty on {one['host']}")
        given = [one["RANK"] for one in seen]
        if len(set(given)) == 1 < world:
            raise Finding("rank-outside-srun", f"{number} processes had RANK={given[0]}")
        if sorted(given) != sorted(map(str, range(world))):
            raise Finding("ranks-not-once", f"they were {', '.join(sorted(given))}")
        for one in seen:
            if one["WORLD_SIZE"] != str(world):
                raise Finding("wrong-world-size", f"it was {one['WORLD_SIZE']} for rank {one['RANK']}")
        for node in self.record["nodes"]:
            local = sorted(one["LOCAL_RANK"] for one in seen if one["host"] == node)
            if local != sorted(map(str, range(self.gpus))):
                same = all(one["LOCAL_RANK"] == one["RANK"] for one in seen)
                raise Finding(
                    "local-rank-is-rank" if same else "ranks-not-once",
                    f"on {node} LOCAL_RANK was {', '.join(local) or 'nobody’s'}",
                )

    def everybody_met(self):
        seen = self.seen()
        met = {one.get("rank") for one in self.files("met").values()}
        if self.record["state"] == "COMPLETED" and len(met) == len(seen):
            return
        addresses = sorted({one["MASTER_ADDR"] for one in seen})
        where = f"MASTER_ADDR was {' and '.join(addresses)}"
        if any(sign in address for address in addresses for sign in "[,"):
            raise Finding("raw-nodelist", where)
        if any(
            address in ("localhost", "0.0.0.0", "::1") or address.startswith("127.") for address in addresses
        ):
            raise Finding("localhost-master", where)
        if len(addresses) > 1:
            raise Finding("own-name-as-master", where)
        zero = next((one for one in seen if one["RANK"] == "0"), None)
        if zero and addresses[0] in self.record["nodes"] and addresses[0] != zero["host"]:
            raise Finding("not-rank-zeros-node", f"{where}, and rank 0 ran on {zero['host']}")
        why = [str(one.get("why")) for one in self.files("failed").values()]
        if not self.record["over"]:
            raise Finding("too-slow", f"{where}. {last_line(self.record['output'])}")
        raise Finding("nobody-met", f"{where}. {why[0] if why else last_line(self.record['output'])}")


def watch(cases, seconds):
    """Give each case its record when all are over, or after so many seconds; a job that is not over then is in nobody's way."""
    cluster = cases[0].cluster
    records = cluster.watch([case.number for case in cases], "train.py", seconds)
    for case, record in zip(cases, records, strict=True):
        case.record = record
        if not record["over"]:
            cluster.cancel(case.number)


NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def last_line(text):
    """The last words of a job: a program's, rather than what Slurm says of them."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    own = [line for line in lines if not line.startswith(("srun: ", "slurmstepd", "[W"))]
    return (own or lines or ["It printed nothing."])[-1][:300]
