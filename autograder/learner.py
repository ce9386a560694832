"""The learner, as a judge meets her: functions to call, data that comes back.

A judge never touches learner code. It asks the proxy, and the proxy asks wherever that code lives: a sandbox when other
people's work is graded, this very process when a learner checks her own.
"""

from __future__ import annotations

import ast
import inspect
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from aboard.ranks.call import Call, Kept, RanksFailed, Run
from aboard.ranks.local import run_call
from aboard.ranks.place import whose_file
from autograder.errors import SandboxError
from autograder.expect import Finding
from autograder.login import Broken, Login, Supercomputer
from autograder.measured import MeasuredRun

Made = TypeVar("Made")
SOLUTION_S = 60.0  # for one call of it


class Room(Protocol):
    """Where learner code lives and can be called."""

    def run(self, call: Call) -> Run:
        """Run `call`; raise RanksFailed when it does not come back whole."""

    def supercomputer(self, nodes: int, site: str | None, rate: str) -> Supercomputer:
        """A cluster for this submission's job scripts. Raises SandboxError or UserError where none can be had."""

    def program(self) -> str:
        """The notebook's given code and answers, as the text of a module."""

    def solved(self) -> AbstractContextManager[Room] | None:
        """Rooms like these in their place, with the exercise's solution in them; None where there is none."""


class Learner:
    """What a check's first parameter offers.

    Whatever keeps a call from coming back whole (an exception, a deadlock, a process that ended, a value that cannot
    cross) is raised as a Finding with that diagnosis, so a judge only writes what it compares.
    """

    def __init__(self, room: Room, timeout_s: Callable[[], float], local: bool = False) -> None:
        self._room, self._timeout_s = room, timeout_s
        self.local = local  # her own machine: bytes are her process's count, not the kernel's
        self._clusters: dict[tuple[int, str | None, str], Supercomputer] = {}
        self._made: dict[Any, Any] = {}

    def call(self, function: str, *args: Any, **kwargs: Any) -> Any:
        """Call `function(*args, **kwargs)` in one process, no process group; its return value."""
        return self._run(Call(function, [[a] for a in args], kwargs, 0)).outputs[0]

    def drive(self, function: str, *args: Any, returns: Any = None, **kwargs: Any) -> Any:
        """Call `function(answers, *args, **kwargs)` of the exercise's drive.py beside the learner's code.

        returns: the form of what drive.py returns, see `has_form`; anything else raises Finding answered-in-its-place.
        """
        run = self._run(Call(function, [[a] for a in args], kwargs, 0, drive=True))
        return _made_by_drive(run, returns).outputs[0]

    def drive_in_folder(
        self, function: str, files: dict[str, bytes], *args: Any, returns: Any = None, **kwargs: Any
    ) -> tuple[Any, Kept]:
        """Like `drive`, with `function(answers, folder, *args, **kwargs)`; also what became of that folder.

        files: what lies in the folder, path → bytes. The grader puts it there, and the kernel tells the grader how often each
        file is opened: what the files hold comes to the learner's process in no other way.
        """
        call = Call(function, [[a] for a in args], kwargs, 0, drive=True, files=files)
        run = _made_by_drive(self._run(call), returns)
        return run.outputs[0], run.kept[0]

    def on_ranks(self, world_size: int) -> Crew:
        """The same on `world_size` gloo ranks."""
        return Crew(self, world_size)

    def supercomputer(self, nodes: int = 2, site: str | None = None, rate: str = "1gbit") -> Supercomputer:
        """A miniature supercomputer of `nodes` nodes, like `site` if one is named; the same one at each call.

        Nothing of the learner's runs on it but the scripts a judge hands in there.
        """
        self._timeout_s()
        key = (nodes, site, rate)
        if key not in self._clusters:
            self._clusters[key] = self._room.supercomputer(nodes, site, rate)
        return self._clusters[key]

    def once(self, make: Callable[..., Made], *args: Any) -> Made:
        """`make(learner, *args)`, of the first check that asks for it: for what several checks look at."""
        if make not in self._made:
            self._made[make] = make(self, *args)
        found: Made = self._made[make]
        return found

    def solved(self, measure: Callable[[Learner], Made]) -> Made | None:
        """`measure(learner)`, with the exercise's own solution in the place of the learner's code; None on her own machine.

        It says what a right answer costs on this machine. Nothing of the learner's is alive meanwhile, and her code is
        started anew when it is next called. Raises SandboxError when the solution does not come back whole.
        """
        self._timeout_s()
        rooms = self._room.solved()
        if rooms is None:
            return None
        there = True

        def patience() -> float:
            if not there:
                raise RuntimeError("a solution can be measured in `solved` only")
            return SOLUTION_S

        with rooms as room:
            solved = Learner(room, patience)
            try:
                return measure(solved)
            except Finding as finding:
                raise SandboxError(f"the solution could not be measured: {finding.message}") from None
            finally:
                there = False
                solved.close()

    def program(self) -> str:
        """The text of a module with the notebook's given code and the learner's answers, for her jobs to import."""
        return self._room.program()

    def close(self) -> None:
        """Take down the clusters there are, and let go of what was made for several checks."""
        self._made.clear()
        for cluster in self._clusters.values():
            cluster.close()
        self._clusters.clear()

    def _run(self, call: Call) -> Run:
        call.timeout_s = self._timeout_s()
        try:
            run = self._room.run(call)
        except RanksFailed as failure:
            raise Finding(failure.kind, str(failure)) from None
        return MeasuredRun(**vars(run))


class Crew:
    """N ranks to call a function on."""

    def __init__(self, learner: Learner, world_size: int) -> None:
        self._learner, self.world_size = learner, world_size

    def call(self, function: str, *per_rank: list[Any], **common: Any) -> Run:
        """Every rank calls `function`: rank r with item r of each positional list, keywords the same for all."""
        return self._learner._run(Call(function, self._spread(per_rank), common, self.world_size))

    def drive(self, function: str, *per_rank: list[Any], returns: Any = None, **common: Any) -> Run:
        """Every rank calls `function(answers, …)` of drive.py; arguments as in `call`, `returns` as in `Learner.drive`."""
        run = self._learner._run(Call(function, self._spread(per_rank), common, self.world_size, drive=True))
        return _made_by_drive(run, returns)

    def converse(
        self, function: str, *per_rank: list[Any], later: list[list[Any]], says: Any, returns: Any,
        count_sent: bool = False, **common: Any,
    ) -> Run:  # fmt: skip
        """Like `drive`, with a generator of drive.py, which is given more while it runs.

        The k-th time rank r yields, the value stands in the run's `said[r][k]`, and the rank goes on with `later[k][r]`.
        So what it is to work on later is not there before it has shown what it made of what came first: nobody can do
        all of the work at once, and keep nothing. says, returns: the forms of what drive.py yields and returns.
        count_sent: for `sent_when_said` of the run.
        """
        call = Call(function, self._spread(per_rank), common, self.world_size, drive=True)
        call.later, call.count_sent = self._spread(tuple(later)), count_sent
        run = _made_by_drive(self._learner._run(call), returns)
        for rank, said in enumerate(run.said):
            if len(said) != len(later) or not has_form(said, [says]):
                raise Finding("answered-in-its-place", f"what rank {rank} said on the way has another form")
        return run

    def drive_in_folder(
        self, function: str, files: dict[str, bytes], *per_rank: list[Any], returns: Any = None, **common: Any
    ) -> Run:
        """Like `drive`, every rank with a folder of its own as in `Learner.drive_in_folder`; what became of it: `kept`."""
        call = Call(function, self._spread(per_rank), common, self.world_size, drive=True, files=files)
        return _made_by_drive(self._learner._run(call), returns)

    def ended_while(
        self, function: str, files: dict[str, bytes], after: int, *per_rank: list[Any],
        steps_at_most: int, says: Any, **common: Any,
    ) -> Run:  # fmt: skip
        """Like `converse` in a folder of each rank's own; a rank is ended soon after its folder has changed `after` times.

        It is ended by the grader, with SIGKILL and with all that runs beside it: it cannot know when. `said` and `kept`
        of the run are what it had yielded by then (`steps_at_most` times, each time it is given None) and what lay there.
        A change: a file was opened, closed after writing, made, removed or renamed.
        """
        call = Call(
            function,
            self._spread(per_rank),
            common,
            self.world_size,
            drive=True,
            files=files,
            end_after=after,
        )
        call.later = [[None] * self.world_size] * steps_at_most
        run = self._learner._run(call)
        for rank, (said, kept) in enumerate(zip(run.said, run.kept, strict=True)):
            if not kept.ended or not has_form(said, [says]):
                raise Finding(
                    "answered-in-its-place", f"rank {rank} was not ended while it worked in its folder"
                )
            if not kept.whole:
                raise Finding(
                    "answered-in-its-place", f"rank {rank} left more in its folder than can be looked at"
                )
        return run

    def _spread(self, per_rank: tuple[list[Any], ...]) -> list[list[Any]]:
        for values in per_rank:
            if len(values) != self.world_size:
                raise ValueError(f"{len(values)} values for {self.world_size} ranks")
        return [list(values) for values in per_rank]


def _made_by_drive(run: Run, form: Any) -> Run:
    """`run`, if what came from each rank has the form that drive.py gives it. Her code could speak in its place."""
    for rank, output in enumerate(run.outputs):
        if not has_form(output, form):
            raise Finding("answered-in-its-place", f"what came from rank {rank} has another form")
    return run


def has_form(value: Any, form: Any) -> bool:
    """Whether `value` has the types that `form` shows.

    form: a type; None for anything; (form, …) for one of several; [form] for a list of any length; {"key": form, …} for
    a dict with exactly these keys; {str: form} for a dict with any strings as keys.
    """
    if form is None:
        return True
    if isinstance(form, type):
        return type(value) is form
    if isinstance(form, tuple):
        return any(has_form(value, one) for one in form)
    if isinstance(form, list):
        return type(value) is list and all(has_form(item, form[0]) for item in value)
    if str in form:
        return type(value) is dict and all(
            type(k) is str and has_form(v, form[str]) for k, v in value.items()
        )
    return (
        type(value) is dict and value.keys() == form.keys() and all(has_form(value[k], form[k]) for k in form)
    )


class Answers:
    """The learner's functions as drive.py sees them: `answers.all_reduce(x)`."""

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._namespace = namespace

    def __getattr__(self, name: str) -> Any:
        try:
            return self._namespace[name]
        except KeyError:
            raise LookupError(missing(name)) from None


def missing(name: str) -> str:
    return f"`{name}` is not defined"


class Misfit(Exception):
    """drive.py could not go on with what the learner's function takes or returns. None of her lines raised it."""


@contextmanager
def _misfits_named() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if type(error) is LookupError or _hers(error):
            raise
        raise Misfit(f"{type(error).__name__}: {error}") from None


def _hers(error: BaseException) -> bool:
    """Whether the exception passed through a line of the learner's."""
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(whose_file(file) == "learner" for file in files if file != __file__)


def lookup_in(
    namespace: Mapping[str, Any], drive: Mapping[str, Any]
) -> Callable[[str, bool], Callable[..., Any]]:
    """How a rank finds the function it is asked to run: in `namespace`, or in drive.py, handed the answers."""

    def lookup(name: str, driven: bool) -> Callable[..., Any]:
        if driven:
            function = drive[name]

            def beside(*args: Any, **kwargs: Any) -> Any:
                with _misfits_named():
                    made = function(Answers(namespace), *args, **kwargs)
                return on_the_way(made) if inspect.isgenerator(made) else made

            def on_the_way(steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
                with _misfits_named():
                    return (yield from steps)

            return beside
        function = namespace.get(name)
        if not callable(function):
            raise LookupError(missing(name) if function is None else f"`{name}` is not a function any more")
        return function

    return lookup


class HereAndNow:
    """A room that is this process: ranks are forked beside the learner's own variables. No isolation."""

    def __init__(
        self, namespace: Mapping[str, Any], drive: Mapping[str, Any], given: Sequence[str] = ()
    ) -> None:
        self._lookup = lookup_in(namespace, drive)
        self._namespace, self._given = namespace, given

    def run(self, call: Call) -> Run:
        return run_call(call, self._lookup)

    def supercomputer(self, nodes: int, site: str | None, rate: str) -> Supercomputer:
        return HereCluster(nodes, site, rate)

    def solved(self) -> None:
        """A workspace holds no solutions."""

    def program(self) -> str:
        """Given code, and all functions and classes as they were last defined in the notebook's cells."""
        found: dict[str, str] = {}
        for cell in self._namespace.get("In", []):
            try:
                statements = ast.parse(cell).body
            except SyntaxError:
                continue  # a magic, or a mistake that was told when it ran
            for statement in statements:
                if (
                    isinstance(statement, ast.FunctionDef | ast.ClassDef)
                    and statement.name in self._namespace
                ):
                    found[statement.name] = ast.get_source_segment(cell, statement) or ""
        return "\n\n".join([*self._given, *found.values()]) + "\n"


class HereCluster(Login):
    """A cluster on the learner's own machine, beside one that she may have up. No isolation from her."""

    def __init__(self, nodes: int, site: str | None, rate: str) -> None:
        import tempfile

        self._place = tempfile.TemporaryDirectory(prefix="aboard-check-")
        super().__init__(nodes, site, rate, Path(self._place.name))

    def _ask(self, *command: str, text: str | None = None) -> Any:
        try:
            return super()._ask(*command, text=text)
        except Broken as error:
            raise Finding("cluster-broken", str(error)) from None

    def close(self) -> None:
        super().close()
        self._place.cleanup()
