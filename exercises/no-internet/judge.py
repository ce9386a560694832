"""Judge of "Modules, containers, no internet".

Scripts may write into any file whatever they like. What the hub has sent it tells only to who knows its key, and its answers
are signed; which ranks ran, where and with which variables is asked of the kernel.
"""

import hashlib
import hmac
import json
import os
import random
import re
import secrets
import shlex
from pathlib import Path

from autograder import expect
from autograder.expect import Finding
from autograder.judge import check, load_module

PROGRAMS = load_module(Path(__file__).with_name("drive.py"), "no_internet_drive")
URL = "http://127.0.0.1:8000"
ACCOUNT = "EUHPC_D{:02d}_{:03d}"
STAGE_S, BROKEN_S, JOB_S = 12, 3, 20  # what goes well takes a second
REACHED_OUT = re.compile(
    r"curl: \(|wget: |unable to resolve|connection refused|failed: Connection|urlopen error|Failed to establish a new connection|Name or service not known"
    r"|Temporary failure in name resolution|Network is unreachable|Could not resolve", re.I
)  # fmt: skip


@check("the files are staged, whole, each fetched once, and a damaged one is noticed", about="records")
def staged(learner, draw):
    case = Staging(learner, draw)
    case.run("a hub that delivers")
    case.all_there()
    sent_now = case.sent()
    for name in case.sizes:
        times = sum(1 for one, sent in sent_now if one == name and sent)
        expect.that(times == 1, "fetched-twice", f"it fetched {name} {times} times")
    case = Staging(learner, draw)
    bad = draw.choice(list(case.sizes))
    status = case.run(f"a hub that sends {bad} with a wrong byte", damaged=bad, seconds=BROKEN_S)
    case.never_wrong(bad, status, "no-checksum")


@check("what is there is not fetched again, and half a file is not taken for a whole one", about="records")
def restarted(learner, draw):
    case = Staging(learner, draw)
    first, second, *_ = draw.shuffled(case.sizes)
    half = case.sizes[second] // 2
    case.plant({first: case.sizes[first], second: half})
    case.run(f"{first} is there, and half of {second}")
    held = case.held()
    expect.that(
        held.get(second) != case.digest(second, half),
        "half-taken-for-whole",
        f"of {second} {half:,} of {case.sizes[second]:,} bytes are there",
    )
    case.all_there()
    case.not_again([first])

    case = Staging(learner, draw)
    names = list(case.sizes)
    bad = names[draw.integer(1, len(names) - 1)]
    status = case.run(f"a connection that breaks in the middle of {bad}", broken=bad, seconds=BROKEN_S)
    case.never_wrong(bad, status, "never-tells")
    there = [name for name, digest in case.held().items() if digest == case.digest(name)]
    case.run("the same folder, and a hub that delivers again")
    case.all_there()
    case.not_again(there)


@check("the job comes through with no network and a read-only home", about="records")
def offline(learner, draw):
    Job(learner, draw).comes_through()


@check("all ranks read the one copy that was staged", about="records")
def once(learner, draw):
    job = Job(learner, draw)
    try:
        job.comes_through()
    except Finding as finding:
        raise Finding("result-first", finding.message) from None
    staged_at = os.path.join(job.where, job.stage.target)
    places = {os.path.join(one["HF_HOME"], name) for one in job.variables() for name in job.stage.sizes}
    read = job.cluster.run(f"realpath -m -- {shlex.join(sorted(places))}", 5)["output"].splitlines()
    copies = sorted(path for path in set(read) if os.path.dirname(path) != staged_at)
    shown = ", ".join(os.path.relpath(path, job.where) for path in copies[:3])
    expect.that(
        not copies, "copied-per-rank", f"{expect.count(len(copies), 'file')} of the model, elsewhere: {shown}"
    )
    fetched = [name for name, sent in job.stage.sent() if sent]
    expect.that(
        not fetched,
        "reaches-out",
        f"the hub was asked for {', '.join(sorted(set(fetched)))} while the job ran",
    )


@check("the container has its GPUs, and every folder under its own name", about="records")
def bound(learner, draw):
    project = ACCOUNT.format(draw.integer(1, 99), draw.integer(1, 999))
    for number in range(3):
        work, scratch = (
            f"/leonardo_work/{project}",
            f"/leonardo_scratch/large/userexternal/u{draw.integer(100, 999)}",
        )
        reads = draw.shuffled(
            [f"{work}/corpus-{draw.integer(1, 9)}", f"{work}/models/tiny-{draw.integer(1, 9)}"]
        )[: 1 + (number > 0)]
        writes = [f"{scratch}/{'run ' if number == 2 else 'run-'}{draw.integer(1, 99)}", f"{scratch}/cache"][
            : 1 + (number == 1)
        ]
        image = f"{work}/images/torch-{draw.integer(1, 30)}.sif"
        command = [
            "python",
            "train.py",
            "--data",
            reads[0],
            "--out",
            writes[0],
            "--steps",
            str(draw.integer(10, 90)),
        ]
        draw.case(f"image {image}, reads {', '.join(reads)}, writes {', '.join(writes)}")
        line = learner.call("container_line", image, list(command), list(reads), list(writes))
        look_at_line(line, image, command, reads, writes)


WITH_VALUE = (
    "--bind",
    "-B",
    "--mount",
    "--env",
    "--env-file",
    "--pwd",
    "--cwd",
    "--workdir",
    "-W",
    "--home",
    "-H",
    "--overlay",
    "-o",
    "--scratch",
    "-S",
)


def look_at_line(line, image, command, reads, writes):
    """A Finding unless the line runs the command in the image with all folders in their places."""
    if type(line) is str:
        try:
            words = shlex.split(line.replace("\\\n", " "))
        except ValueError as error:
            raise Finding("wrong-type", f"a shell could not read the line: {error}") from None
    elif type(line) is list and all(type(word) is str for word in line):
        words = line
    else:
        raise Finding(
            "wrong-type",
            f"`container_line` returned {type(line).__name__}; a text or a list of words is asked for",
        )
    expect.that(
        len(words) > 2 and os.path.basename(words[0]) in ("singularity", "apptainer") and words[1] == "exec",
        "not-exec", f"it begins with {' '.join(words[:2])!r}",
    )  # fmt: skip
    expect.that(image in words, "no-image", f"{image} is not among its words")
    options, rest = [], words[2:]
    while rest and rest[0].startswith("-"):
        name, has_value, value = rest[0].partition("=")
        rest = rest[1:]
        if name in WITH_VALUE and not has_value and rest:
            value, rest = rest[0], rest[1:]
        options.append((name, value))
    spaced = any(" " in path for path in [*reads, *writes])
    if not rest or rest[0] != image:
        raise Finding(
            "not-quoted" if spaced else "no-image",
            f"singularity takes {rest[0] if rest else 'nothing'!r} for the image",
        )
    late = [
        word for word in rest[1:] if word.partition("=")[0] in ("--nv", "--rocm", "--bind", "-B", "--mount")
    ]
    expect.that(not late, "option-after-image", f"behind the image: {', '.join(late)}")
    expect.that(
        any(name == "--nv" for name, _ in options),
        "no-gpus",
        "its options are " + (", ".join(name for name, _ in options) or "none"),
    )
    if rest[1:] != command:
        raise Finding(
            "not-quoted" if spaced and " ".join(rest[1:]) == " ".join(command) else "wrong-command",
            f"it is {shlex.join(rest[1:])}",
        )
    binds = [bind for name, value in options for bind in binds_of(name, value)]
    for folder in [*reads, *writes]:
        # The last bind at the deepest place decides, as mounts do.
        over = [one for one in binds if within(folder, one[1])]
        place = max(over, key=lambda one: len(one[1])) if over else None
        if place is None:
            elsewhere = [one for one in binds if one[0] == folder or within(folder, one[0])]
            if elsewhere:
                raise Finding("other-name-inside", f"{folder} is found at {elsewhere[0][1]} inside")
            raise Finding("missing-bind", f"nothing brings {folder} in")
        came_from = place[0] + folder[len(place[1]) :]
        expect.that(came_from == folder, "other-name-inside", f"at {folder} the container has {came_from}")
        if folder in reads:
            expect.that(
                "ro" in place[2],
                "read-only-missing",
                f"{folder} is bound as {':'.join(filter(None, [place[0], place[1], ','.join(place[2])]))}",
            )
        else:
            expect.that("ro" not in place[2], "not-writable", f"{folder}")


def binds_of(name, value):
    """(outside, inside, options) of each bind that an option asks for."""
    if name in ("--bind", "-B"):
        for one in value.split(","):
            if one in ("ro", "rw"):
                continue
            outside, _, more = one.partition(":")
            inside, _, mode = more.partition(":")
            yield tidy(outside), tidy(inside or outside), [mode] if mode else []
    elif name == "--mount":
        parts = dict(part.partition("=")[::2] for part in value.split(","))
        outside = parts.get("src") or parts.get("source") or ""
        inside = parts.get("dst") or parts.get("destination") or parts.get("target") or ""
        if parts.get("type") == "bind" and outside and inside:
            yield tidy(outside), tidy(inside), ["ro"] if "ro" in parts or "readonly" in parts else []


def tidy(path):
    return path.rstrip("/") or "/"


def within(path, folder):
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def start_hub(learner, cluster):
    """Start it on the cluster; what it knows and nobody else on its node."""
    key = secrets.token_hex(16)
    cluster.serve(PROGRAMS.HUB.replace("the key", key))
    if not cluster.until("hub-up.txt", "up", 15):
        raise Finding("cluster-broken", "the hub did not start")
    return key


class Staging:
    """A model at the hub, drawn anew, and the folder that it is to be staged into."""

    def __init__(self, learner, draw):
        self.learner, self.draw = learner, draw
        self.cluster = learner.supercomputer(2, "leonardo")
        self.seed, parts = draw.seed(), draw.integer(2, 3)
        self.sizes = {"config.json": draw.integer(300, 900), "tokenizer.json": draw.integer(20_000, 40_000)}
        self.sizes |= {
            f"model-{i + 1:05d}-of-{parts:05d}.safetensors": draw.integer(100_000, 300_000)
            for i in range(parts)
        }
        self.target = f"models/tiny-{draw.seed()}"
        self.key = learner.once(start_hub, self.cluster)
        self.plan()

    def plan(self, damaged="", broken=""):
        """What the hub does from now on."""
        self.ask(new={"seed": self.seed, "sizes": self.sizes, "damaged": damaged, "broken": broken})

    def plant(self, sizes):
        """Put the first bytes of files there, as if a download had brought them: name → how many."""
        self.ask(plant={"folder": self.target, "sizes": sizes})

    def sent(self):
        """(name, bytes) of each answer of the hub since the latest plan, without the checksums."""
        return [(name, size) for name, size in self.ask() if name != "SHA256SUMS"]

    def ask(self, **order):
        """Have the hub obey, and tell what it has sent."""
        number, text = secrets.token_hex(8), json.dumps(order)
        url = f"{URL}/{number}/{self.signed(number, text)}"
        said = self.cluster.run(
            f"curl -qfsS --max-time 10 --data-binary @- {url} <<'END'\n{text}\nEND\n", 15
        )["output"]
        signature, _, answer = said.strip().partition(" ")
        if not hmac.compare_digest(signature.encode(), self.signed("answer " + number, answer).encode()):
            raise Finding("cluster-broken", "what answers at the hub's place is not the hub")
        return json.loads(answer)

    def signed(self, number, text):
        return hmac.new(self.key.encode(), f"{number} {text}".encode(), "sha256").hexdigest()

    def run(self, case, damaged="", broken="", seconds=STAGE_S):
        """Run the learner's script; its status, which is an error's only where something was made to go wrong."""
        self.draw.case(f"{expect.count(len(self.sizes), 'file')}; {case}")
        script = self.learner.call("stage_script", URL, self.target, list(self.sizes))
        if type(script) is not str:
            raise Finding(
                "wrong-type", f"`stage_script` returned {type(script).__name__}, and a script is a text"
            )
        self.plan(damaged, broken)
        done = self.cluster.run(script, seconds)
        if not damaged and not broken:
            expect.that(
                done["status"] != 124, "stage-slow", f"it had {seconds} s. {last_line(done['output'])}"
            )
            expect.that(
                done["status"] == 0, "stage-failed", f"status {done['status']}. {last_line(done['output'])}"
            )
        return done["status"]

    def digest(self, name, size=None):
        body = random.Random(f"{self.key}/{self.seed}/{name}").randbytes(self.sizes[name])
        return hashlib.sha256(body[:size]).hexdigest()

    def held(self):
        """File of the target folder → its checksum."""
        done = self.cluster.run(
            f"cd {self.target} 2>/dev/null && sha256sum -- {' '.join(self.sizes)} 2>/dev/null; true", 10
        )
        lines = [line.split(maxsplit=1) for line in done["output"].splitlines()]
        return {pair[1].lstrip("*"): pair[0] for pair in lines if len(pair) == 2}

    def all_there(self):
        held = self.held()
        for name in self.sizes:
            expect.that(name in held, "file-missing", f"in {self.target} there is no {name}")
            expect.that(
                held[name] == self.digest(name),
                "wrong-file-kept",
                f"in {self.target} {name} is not the hub's",
            )

    def never_wrong(self, bad, status, diagnosis):
        """After a run in which `bad` could not be had: the script says so, and nothing lies there in its place."""
        ended = "was stopped after some seconds" if status == 124 else f"has ended with status {status}"
        expect.that(status != 0, diagnosis, f"it could not get {bad} whole, and its status was 0")
        expect.that(
            bad not in self.held(),
            "wrong-file-kept",
            f"in {self.target} there is {bad}, when the script {ended}",
        )

    def not_again(self, names):
        sent_now = self.sent()
        for name in names:
            again = sum(sent for one, sent in sent_now if one == name)
            expect.that(not again, "fetched-again", f"it fetched {again:,} bytes of {name}")


class Job:
    """A job on a model that the judge itself has staged, with a home that cannot be written into."""

    def __init__(self, learner, draw):
        self.stage = stage = Staging(learner, draw)
        self.cluster, self.nodes, self.ranks = stage.cluster, 2, draw.integer(2, 3)
        self.minutes, account = draw.integer(3, 25), ACCOUNT.format(draw.integer(1, 99), draw.integer(1, 999))
        self.scratch = f"scratch-{stage.seed}"
        made = self.cluster.run(
            f"mkdir -p {stage.target} {self.scratch} home && chmod 0555 home && pwd -P", 5
        )
        self.where = last_line(made["output"])
        stage.plant(stage.sizes)
        self.home = f"{self.where}/home"
        draw.case(
            f"{self.nodes} nodes, {expect.count(self.ranks, 'rank')} on each, the model in {stage.target}"
        )
        self.script = learner.call(
            "job_script", self.nodes, self.ranks, self.minutes, account, stage.target, self.scratch
        )
        if type(self.script) is not str:
            raise Finding(
                "wrong-type", f"`job_script` returned {type(self.script).__name__}, and a script is a text"
            )

    def files(self, kind):
        found = {}
        for name, text in self.cluster.read(f"{kind}-{self.number}-*.json").items():
            try:
                value = json.loads(text)
            except ValueError:
                continue
            if isinstance(value, dict):
                found[name] = value
        return found

    def comes_through(self):
        needs = {"home": self.home, "files": {name: self.stage.digest(name) for name in self.stage.sizes}}
        self.cluster.put("needs.json", json.dumps(needs))
        self.cluster.put("train.py", PROGRAMS.TRAIN)
        # Handed in by a shell with that HOME, so that what the script says of --export holds.
        self.cluster.put("job.sh", self.script)
        handed = f"export HOME={self.home} HF_ENDPOINT={URL}; sbatch --parsable job.sh"
        answer = self.cluster.run(handed, 30)
        if answer["status"]:
            said = answer["output"].replace(
                "sbatch: error: Batch job submission failed: Unspecified error", ""
            )
            raise Finding("refused", last_line(said))
        self.number = int(answer["output"].split()[0].partition(";")[0])
        record = self.cluster.watch([self.number], "train.py", JOB_S)[0]
        self.looked = record["processes"]
        if not record["over"]:
            self.cluster.cancel(self.number)
        said = last_line(record["output"])
        tried = [line for line in record["output"].splitlines() if REACHED_OUT.search(line)]
        expect.that(not tried, "reaches-out", f"the job printed: {tried[0][:200] if tried else ''}")
        for one in self.variables():
            self.look_at(one)
        for lacks in self.files("lacks").values():
            raise Finding("no-model", f"a rank lacked {', '.join(map(str, lacks.get('names', [])))}")
        for one in self.files("unwritten").values():
            raise Finding(
                "cache-in-home" if one.get("inside") is True else "failed", str(one.get("why"))[:300]
            )
        expect.that(record["over"], "too-slow", f"it is {record['state'].lower()} after {JOB_S} s. {said}")
        expect.that(record["state"] == "COMPLETED", "failed", f"{record['state'].lower()}. {said}")
        world, hosts = self.nodes * self.ranks, {one["node"] for one in self.looked}
        expect.that(
            len(self.looked) == world and len(self.files("done")) == world,
            "no-srun",
            f"{len(self.looked)} processes ran train.py, for {world} ranks",
        )
        expect.that(hosts == set(record["nodes"]), "no-srun", f"it ran on {', '.join(sorted(hosts))}")

    def variables(self):
        """Of each process that ran train.py, what its environment says of the model, the hub and the cache."""
        for one in self.looked:
            given = one["variables"].get
            home, cache = given("HOME", ""), given("XDG_CACHE_HOME", "")
            yield {
                "host": one["node"], "HF_HOME": given("HF_HOME", ""), "XDG_CACHE_HOME": cache,
                "offline": given("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"),
                "cache": cache if os.path.isabs(cache) else os.path.join(home, ".cache"),
            }  # fmt: skip

    def look_at(self, one):
        """What the variables of a rank say, before what came of them."""
        for name in ("HF_HOME", "XDG_CACHE_HOME"):
            held = one[name]
            if not held and f"{name}=" in self.script:
                raise Finding("not-exported", f"{name} was empty in a rank on {one['host']}")
            if held and not os.path.isabs(held):
                raise Finding("relative-path", f"{name} was {held!r}")
        if not one["HF_HOME"]:
            raise Finding("no-model", "HF_HOME was not set")
        if within(os.path.normpath(one["cache"]), self.home):
            raise Finding("cache-in-home", f"it was to go to {one['cache']}")
        if not one["offline"]:
            raise Finding(
                "not-exported" if "HF_HUB_OFFLINE=" in self.script else "asks-the-hub",
                f"a rank on {one['host']} did, for 3 seconds",
            )


def last_line(text):
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else "It printed nothing."
