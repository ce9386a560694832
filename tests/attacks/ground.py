"""The ground on which attacks take place: a course, submissions, results and a home with secrets in them, things on the
machine that nobody may touch, and the batch's own worker, watched from outside.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup

from aboard.ranks.memory import forget_high_water, read_status
from autograder.batch import ONE_THREAD, Crew, Task, Worker
from autograder.exercise import Course, Exercise
from autograder.feedback import as_plain
from autograder.report import write_report
from autograder.sandbox.account import below, process_tree
from autograder.sandbox.outer import WALLS
from autograder.verdict import Result
from tests import ordinary_user
from tests.attacks.attack import ESCAPED, VISITOR, Attack
from tests.attacks.attack import before as ahead
from tests.cohort import notebook
from tests.small import changed, leave_out

ROOT = Path(__file__).parents[2]
SEED = "secret-seed-" + os.urandom(6).hex()
CANARY = "CANARY-" + os.urandom(8).hex()
MARK = f"attack{os.getpid()}"  # in the name of whatever an attack tries to leave
REPLY_S = 200.0
GROWN_FOR_A_MOMENT, GROWN_FOR_GOOD = 400 * 2**20, 100 * 2**20  # bytes of the grader's memory
TAGS = set(
    "html head meta title style body a main header nav section article footer h1 h2 h3 p pre code div span ul ol li dl dt dd "
    "table caption thead tbody tr th td strong em b i small br hr img svg rect details summary".split()
)
FILES = ("result.json", "feedback.html", "executed.ipynb")
# What differs between two gradings of the same file: how long things took and how much they needed, and the
# id that papermill draws for the cell of its parameters.
TIMES = re.compile(
    r'"(start_time|end_time|duration|wall_s|cpu_s|peak_rss_bytes)": ("[^"]*"|[-\d.e]+|null)|"id": "[0-9a-f]{8}"'
)


@dataclass
class Found:
    """What came of one submission."""

    reply: dict[str, Any]
    result: Result | None
    texts: dict[str, str]
    seconds: float
    printed: str = ""
    wrong: list[str] = field(default_factory=list)  # what must not be, in sentences


class Ground:
    """A place to attack, with one worker (`engine`, `layer`) of one user ("this" or "ordinary").

    Attacks in `narrowed` meet only the checks that they may not earn, all others the whole exercise.
    """

    def __init__(
        self, base: Path, engine: str, layer: str = "bubblewrap", user: str = "this", narrowed: Iterable[Attack] = (),
    ) -> None:  # fmt: skip
        self.base, self.engine, self.layer, self.user = base, engine, layer, user
        self.home, self.out, self.submissions = base / "home", base / "results", base / "submissions"
        self.course_folder, self.tmp = base / "course", base / "tmp"
        self._lay_out()
        self.course = Course(self.course_folder)
        # (exercise, checks that may be earned) → the exercise without those
        self._narrow = {(one.exercise, one.may_earn): self._without(one) for one in narrowed if one.may_earn}
        self.victim = subprocess.Popen(["sleep", "3600"])
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.abstract = socket.socket(socket.AF_UNIX)
        # Grounds alike but for their user may stand side by side
        self._abstract_name = f"{MARK}-{os.urandom(4).hex()}"
        self.abstract.bind(f"\0{self._abstract_name}")
        self.abstract.listen()
        self._crew: Crew | None = None
        self._worker: Worker | None = None
        self._reference: dict[str, dict[str, str]] = {}
        self._crews: set[int] = set()
        self._suspects: list[str] = []

    def close(self) -> None:
        self._stop()
        self.victim.kill()
        self.victim.wait()
        self.listener.close()
        self.abstract.close()
        # Some leave folders a thousand deep, on which Python's own rmtree fails.
        subprocess.run(["rm", "-rf", str(self.tmp), str(self.submissions), str(self.out)], check=False)

    # --- before

    def _lay_out(self) -> None:
        for folder in (self.home / ".ssh", self.tmp, self.out, self.submissions):
            folder.mkdir(parents=True)
        shutil.copytree(ROOT / "exercises", self.course_folder / "exercises")
        ring = self.course_folder / "exercises" / "ring-all-reduce"
        changed(ring, ring.with_name("ring-short"), wall_s=3)
        changed(ring, ring.with_name("ring-eight"), wall_s=8)
        changed(ring, ring.with_name("ring-small"), wall_s=24, memory_mib=512)
        changed(ring, ring.with_name("ring-quick"), keep=("chunks", "result"))
        changed(ring, ring.with_name("ring-alone"), wall_s=8, keep=("chunks",), ranks=1)
        for judge in self.course_folder.glob("exercises/*/judge.py"):
            judge.write_text(judge.read_text() + f"\n# {CANARY}-judge\n")
        (self.home / ".ssh" / "id_secret").write_text(f"{CANARY}-home")
        exercise = Course(self.course_folder).exercise("ring-all-reduce")
        neighbour = notebook(exercise, exercise.solution() | {"chunks": f"# {CANARY}-neighbour"})
        for learner in ("alice", "bob"):
            (self.submissions / learner).mkdir()
            (self.submissions / learner / "ring-all-reduce.ipynb").write_text(neighbour)
            (self.out / learner / "ring-all-reduce").mkdir(parents=True)
            (self.out / learner / "ring-all-reduce" / "result.json").write_text(f"{CANARY}-result")
        if self.user == "ordinary" and os.geteuid() == 0:
            for path in (self.base, *self.base.rglob("*")):
                os.chown(path, ordinary_user.UID, ordinary_user.UID, follow_symlinks=False)

    def _without(self, one: Attack) -> str:
        """The id of its exercise without the checks that it may earn."""
        exercise = self.course.exercise(one.exercise)
        left = [check for check in exercise.points if check not in one.may_earn]
        folder = exercise.folder.with_name("-".join((exercise.id, *left)).replace("_", "-"))
        if left and not folder.exists():
            changed(exercise.folder, folder)
            leave_out(folder, one.may_earn.intersection(exercise.points))
        return folder.name

    def places(self) -> dict[str, str]:
        """What an attacker is told, generously: where everything is."""
        return {
            "HOME": str(self.home), "OUT": str(self.out), "SUBMISSIONS": str(self.submissions), "MARK": MARK,
            "COURSE": str(self.course_folder), "TMP": str(self.tmp), "VICTIM": str(self.victim.pid),
            "PORT": str(self.listener.getsockname()[1]), "GRADER": str(self.family()[0]),
            "ABSTRACT": self._abstract_name,
        }  # fmt: skip

    @property
    def worker(self) -> Worker:
        """The worker, which is hired when there is none, or a crew with one where that has ended."""
        if self._worker is None or is_corpse(self._pid):
            if self._crew is None or not self._crew.alive():
                self._stop()
                self._crew = self._new_crew()
                self._crews.add(self._crew.process.pid)
            self._worker = self._crew.hire()
            greeting = self._worker.hear() or {}
            assert "ready" in greeting, greeting or self._last_words()
            self._pid: int = greeting["ready"]
            self._members = len(self.family())
        return self._worker

    def _new_crew(self) -> Crew:
        """As a batch has it, with a home of its own."""
        settings = {
            "course": str(self.course_folder), "out": str(self.out), "engine": self.engine, "seed": SEED,
            "submissions": str(self.submissions),
        }  # fmt: skip
        own = {
            "HOME": str(self.home), "TMPDIR": str(self.tmp), "SECRET_TOKEN": f"{CANARY}-environment", "PYTHONPATH": str(ROOT),
        }  # fmt: skip

        def command(fd: int) -> list[str]:
            line = [str(Path(__file__).with_name("worker.py")), self.layer, str(fd)]
            if self.user == "ordinary":
                return ordinary_user.command(line, self.base)
            return [sys.executable, *line]

        with open(self.base / "worker.log", "ab") as log:
            return Crew(settings, command, stderr=log, cwd="/", env=os.environ | ONE_THREAD | own)

    def family(self) -> list[int]:
        """The worker, then its crew and all else that this has started."""
        assert self.worker and self._crew
        crew = self._crew.process.pid
        return [self._pid, *(p for p in (crew, *below(crew, process_tree())) if p != self._pid)]

    def _let_go(self) -> None:
        if self._worker is not None:
            self._worker.end()
            self._worker = None

    def _stop(self) -> None:
        self._let_go()
        if self._crew is not None:
            self._crew.end()
            self._crew = None

    # --- grading

    def grade(self, learner: str, exercise: str, path: Path, patience_s: float = REPLY_S) -> Found:
        """Hand one file to the worker, as a batch does, and read what it wrote."""
        start = time.monotonic()
        reply = self._ask(Task(learner, exercise, path), patience_s)
        if "lost" in reply:
            self._let_go()
            reply = self._ask(Task(learner, exercise, path), patience_s)
        seconds = time.monotonic() - start
        if "status" not in reply and "error" not in reply:
            self._stop()
            why = reply.get("lost", "it has ended or hangs")
            return Found({}, None, {}, seconds, wrong=[f"the worker: {why}; {self._last_words()}"])
        texts = {}
        for name in FILES:
            file = self.out / learner / exercise / name
            if file.is_file():
                texts[name] = file.read_text(encoding="utf-8", errors="replace")
        result = Result.model_validate_json(texts["result.json"]) if "result.json" in texts else None
        wrong = [f"not graded: {reply['error']}; {self._last_words()}"] if "error" in reply else []
        return Found(reply, result, texts, seconds, _printed(texts.get("executed.ipynb", "")), wrong)

    def _ask(self, task: Task, patience_s: float) -> dict[str, Any]:
        """The worker's answer; {} when there is none."""
        worker = self.worker
        self._said = (self.base / "worker.log").stat().st_size
        worker.give(task)
        return (worker.hear() or {}) if select.select([worker.line], [], [], patience_s)[0] else {}

    def _last_words(self) -> str:
        with open(self.base / "worker.log", errors="replace") as file:
            file.seek(self._said)
            return file.read()[-1500:]

    def hand_in(self, learner: str, exercise: str, text: str | bytes) -> Path:
        path = self.submissions / learner / f"{exercise}.ipynb"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        return path

    def innocents(self, exercise_id: str = "ring-quick") -> dict[str, str]:
        """Grade a right and a wrong answer of people who have done nothing; their files, without times."""
        exercise = self.course.exercise(exercise_id)
        mistakes = {"ring-quick": ("ring", "def ring_all_reduce(tensor):\n    return tensor")}
        name, text = mistakes.get(exercise_id, (exercise.answer_ids()[0], "raise ValueError('no idea')"))
        kept = {}
        for learner, answers in (
            ("right", exercise.solution()),
            ("wrong", exercise.solution() | {name: text}),
        ):
            found = self.grade(
                learner, exercise_id, self.hand_in(learner, exercise_id, notebook(exercise, answers))
            )
            for file in FILES:
                kept[f"{learner}/{file}"] = TIMES.sub("", found.texts.get(file, "; ".join(found.wrong)))
        return kept

    def reference(self, exercise_id: str = "ring-quick") -> dict[str, str]:
        """What `innocents` gives when nobody attacks. Also warms the worker up."""
        if exercise_id not in self._reference:
            self._reference[exercise_id] = self.innocents(exercise_id)
            for name in ("right", "wrong"):
                whole = '"status": "fail"' not in self._reference[exercise_id][f"{name}/result.json"]
                assert whole == (name == "right"), self._reference[exercise_id][f"{name}/result.json"]
        return self._reference[exercise_id]

    # --- an attack

    def attack(self, one: Attack, innocents_every: int = 1) -> Found:
        """Run one attack; `Found.wrong` lists every promise that was broken.

        After every `innocents_every` of them, people who have done nothing are graded, and must not notice.
        """
        told = self.course.exercise(one.exercise if self.layer in WALLS else "ring-alone")
        exercise = self.course.exercise(self._narrow.get((told.id, one.may_earn), told.id))
        innocent = "ring-quick" if self.layer in WALLS else "ring-alone"
        self.reference(innocent)
        if self._worker is None or is_corpse(self._pid) or not self._whole():
            self.innocents(innocent)  # after what an attack broke, start anew
        if (self.submissions / one.learner).is_symlink():
            (self.submissions / one.learner).unlink()
        shutil.rmtree(self.submissions / one.learner, ignore_errors=True)
        shutil.rmtree(self.out / one.learner, ignore_errors=True)
        asked = one.file or exercise.id
        if one.place is not None:
            path = self.submissions / one.learner / f"{asked}.ipynb"
            path.parent.mkdir()
            one.place(self, told, path)
        else:
            assert one.make is not None
            path = self.hand_in(one.learner, asked, _handed_in_for(exercise, told, one.make(self, told)))
        before = self._look(one)
        found = self.grade(one.learner, asked, path)
        self._compare(one, exercise, before, found)
        if one.visit and self.layer in WALLS and self.engine == "fork":
            visitor = self.course.exercise("ring-alone")
            seen = self.grade(
                "visitor", visitor.id, self.hand_in("visitor", visitor.id, ahead(VISITOR)(self, visitor))
            )
            shutil.rmtree(self.out / "visitor", ignore_errors=True)
            if ESCAPED in seen.printed or seen.result is None:
                found.wrong.append(f"the next one finds {seen.printed[-600:]}")
        self._suspects.append(one.name)
        if innocents_every and len(self._suspects) >= innocents_every:
            suspects, self._suspects = ", ".join(self._suspects), []
            want, got = self.reference(innocent), self.innocents(innocent)
            found.wrong += [
                f"after {suspects}: an innocent's {key} changed: {_difference(want[key], got[key])}"
                for key in want if want[key] != got[key]
            ]  # fmt: skip
        if one.also is not None:
            try:
                one.also(found)
            except AssertionError as error:
                found.wrong.append(f"{one.name}: {error}")
        return found

    def _whole(self) -> bool:
        """Whether the worker has all that belongs to it."""
        return len(self.family()) >= self._members

    def _look(self, one: Attack) -> dict[str, Any]:
        """The state of everything that must be the same afterwards."""
        family = [p for p in self.family() if not is_corpse(p)]  # corpses: a test of their own
        pid = family[0]
        mine = {p for p in (self.submissions / one.learner, self.out / one.learner)}
        outside = [
            p for folder in (self.home, self.submissions, self.out, self.course_folder) for p in folder.rglob("*")
            if not mine & {p, *p.parents} and not p.name.startswith(".") and not {"right", "wrong", "visitor"} & set(p.parts)
            and "__pycache__" not in p.parts
        ]  # fmt: skip
        forget_high_water(pid)
        return {
            "processes": family, "descriptors": {p: _descriptors(p) for p in family},
            "files": {str(p): (p.lstat().st_mtime_ns, p.lstat().st_size) for p in outside},
            "marked": _marked(), "temporary": sorted(p.name for p in self.tmp.iterdir() if not p.name.startswith("torchinductor")),
            "system V": {k: _lines(f"/proc/sysvipc/{k}") for k in ("shm", "sem", "msg")},
            "rss": read_status(pid)["RssAnon"], "high": read_status(pid)["VmHWM"], "server": read_status(family[-1])["RssAnon"],
            "strays": _strays(self._crews),
        }  # fmt: skip

    def _compare(self, one: Attack, exercise: Exercise, before: dict[str, Any], found: Found) -> None:
        say = found.wrong.append
        pid = before["processes"][0]
        high = read_status(pid)["VmHWM"] - before["high"]
        if high > GROWN_FOR_A_MOMENT:
            say(f"the grader needed {high >> 20} MiB more")
        # What is killed takes a moment to be gone; what stays for two seconds stays.
        deadline, after = time.monotonic() + 2.0, self._look(one) if found.reply else {}
        while after and after["processes"] != before["processes"] and time.monotonic() < deadline:
            time.sleep(0.05)
            after = self._look(one)
        for what in ("processes", "descriptors", "files", "temporary", "system V", "marked", "strays"):
            if after and after[what] != before[what]:
                say(f"{what} are not what they were: {_changed(before[what], after[what])}")
        if after and after["rss"] - before["rss"] > GROWN_FOR_GOOD:
            say(f"the grader kept {(after['rss'] - before['rss']) >> 20} MiB")
        if after and after["server"] - before["server"] > GROWN_FOR_GOOD:
            say(f"the server kept {(after['server'] - before['server']) >> 20} MiB")
        if found.result is not None:
            self._verdict(one, exercise, found)
            self._pages(found)
        for name, text in found.texts.items():
            for secret in (CANARY, "BEGIN SOLUTION") + (() if name == "result.json" else (SEED,)):
                if secret in text:
                    say(f"{name} holds {secret}: …{text[max(0, text.index(secret) - 200) :][:300]}…")
        for text in (found.printed, found.texts.get("result.json", "")):
            if ESCAPED in text:
                say(f"it got out: {text[text.index(ESCAPED) :][:400]}")
        if self.victim.poll() is not None:
            say("a process of somebody else was ended")
            self.victim = subprocess.Popen(["sleep", "3600"])
        for door in (self.listener, self.abstract):
            if select.select([door], [], [], 0)[0]:
                door.accept()[0].close()
                say("a door outside was knocked at")
        limit = exercise.limits.wall_s + one.slow_s + (15 if self.engine == "kernel" else 0)
        if found.seconds > limit:
            say(f"it took {found.seconds:.0f} s; the exercise allows {exercise.limits.wall_s:.0f} s")

    def _pages(self, found: Found) -> None:
        """What people open holds nothing that acts: the feedback, the cohort's report, and both as text."""
        assert found.result is not None
        report = write_report([found.result], self.base).read_text(encoding="utf-8")
        for name, page in (("feedback.html", found.texts["feedback.html"]), ("report.html", report)):
            for element in BeautifulSoup(page, "html.parser").find_all(True):
                links = [str(element.get(key, "")) for key in ("href", "src", "data", "action", "xlink:href")]
                acts = [key for key in element.attrs if key.lower().startswith("on")]
                leads_out = [
                    one for one in links if ":" in one and not one.startswith("data:image/png;base64,")
                ]
                if element.name not in TAGS or acts or leads_out:
                    found.wrong.append(f"{name} holds an element that acts: {str(element)[:300]}")
                    break
        shown = as_plain(found.result)
        odd = {c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c != "\n"}
        if odd:
            found.wrong.append(f"shown in a terminal: {odd}")

    def _verdict(self, one: Attack, exercise: Exercise, found: Found) -> None:
        result = found.result
        assert result is not None
        stolen = [c.id for c in result.checks if c.points > 0 and c.id not in one.may_earn]
        if stolen:
            found.wrong.append(f"it earned points for {', '.join(stolen)}")
        if result.max_score != (0 if one.file else exercise.max_score) or result.score != sum(
            c.points for c in result.checks
        ):
            found.wrong.append(f"its score is {result.score} of {result.max_score}")
        if one.rejected and result.status != "rejected":
            found.wrong.append(f"it was {result.status}, and should have been refused")
        errors = [c.message for c in result.checks if c.status == "error"]
        if errors:
            found.wrong.append(f"it broke the judge: {errors[0][:300]}")
        if len(found.texts["result.json"]) > 2**20 or len(found.texts.get("executed.ipynb", "")) > 8 * 2**20:
            found.wrong.append("it filled the results: " + str({k: len(v) for k, v in found.texts.items()}))


def _handed_in_for(exercise: Exercise, told: Exercise, text: str | bytes) -> str | bytes:
    """A notebook of the exercise `told`, as one of `exercise`."""
    if exercise.id == told.id or isinstance(text, bytes):
        return text
    named = f'"exercise": "{told.id}"'
    assert named in text, (
        "refused as a notebook of another exercise, it would earn nothing for the wrong reason"
    )
    return text.replace(named, f'"exercise": "{exercise.id}"')


def _printed(executed: str) -> str:
    """All that the cells of an executed notebook put out."""
    try:
        return json.dumps([c.get("outputs", []) for c in json.loads(executed)["cells"]]) if executed else ""
    except (ValueError, KeyError):
        return executed


def _descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return -1


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _marked() -> list[str]:
    """Whatever bears an attack's mark, anywhere on the machine."""
    names = [
        str(p)
        for folder in ("/tmp", "/dev/shm", "/var/tmp", "/dev/mqueue")
        for p in Path(folder).glob(f"*{MARK}*")
    ]
    names += [line.split()[-1] for line in _lines("/proc/net/unix") if MARK in line]
    return sorted(names)


def _strays(crews: set[int]) -> list[int]:
    """What began in the rooms of these crews and lost its parent: what escapes from a family ends with process 1."""
    rooms = [f"ALL_ABOARD_ROOM={pid}\0".encode() for pid in crews]
    return sorted(
        pid for pid in process_tree().get(1, []) if any(room in _environment(pid) for room in rooms)
    )


def is_corpse(pid: int) -> bool:
    """Whether the process has ended and nobody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _changed(old: Any, new: Any) -> str:
    if isinstance(old, dict):
        return str(
            {k: (old.get(k), new.get(k)) for k in old.keys() | new.keys() if old.get(k) != new.get(k)}
        )[:600]
    return f"{[x for x in old if x not in new]} → {[x for x in new if x not in old]}"[:600]


def _difference(want: str, got: str) -> str:
    place = next(
        (i for i, (a, b) in enumerate(zip(want, got, strict=False)) if a != b), min(len(want), len(got))
    )
    return f"…{want[max(0, place - 100) : place + 200]}… became …{got[max(0, place - 100) : place + 200]}…"
