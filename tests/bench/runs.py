"""Which work is graded by whom and how many times: each row of the tables is one `Run`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.measure import Cost, Failed
from tests.bench.nbgrader import Nbgrader
from tests.bench.otter import Otter
from tests.bench.ours import Ours
from tests.bench.peers import Environment, NotHere
from tests.bench.work import ADD, WORKS, Notebook

Way = tuple[str, Callable[[int], Cost]]  # its name, and what grades so many submissions

PEERS = ("nbgrader", "otter-grader")
SIZES = (1, 8, 64)
SCALING = (10, 100, 1000, 5000)
# A run of seconds is at the mercy of a moment: what takes less than this is run three times, and the median counts.
SHORT_S = 20.0


@dataclass(frozen=True)
class Run:
    """`count` submissions of `work`, graded in one `way`: a tool may have two."""

    way: str
    work: str
    count: int
    cost: Cost

    def as_json(self) -> dict[str, object]:
        return {
            "way": self.way,
            "work": self.work,
            "count": self.count,
        } | self.cost.as_json()


def environments(names: tuple[str, ...] = PEERS) -> tuple[dict[str, Environment], dict[str, str]]:
    """The peers that could be installed, and for each of the others the sentence why not."""
    found, missing = {}, {}
    for name in names:
        try:
            found[name] = Environment(name)
        except NotHere as error:
            missing[name] = str(error)
    return found, missing


def side_by_side(peers: dict[str, Environment], jobs: int, most: int) -> Iterator[Run | str]:
    """The same work by every tool, at most `most` submissions at a time. A sentence in place of a run that failed."""
    for work, notebooks in WORKS.items():
        with tempfile.TemporaryDirectory() as name:
            ways: list[Way] = []
            for tool in ("autograder", *peers):
                place = Path(name) / tool
                place.mkdir()
                try:
                    ways += _ways(tool, peers.get(tool), place, notebooks, jobs)
                except Failed as error:
                    yield f"{tool}, {work}: not measured: {error}"
            for count in (n for n in SIZES if n <= most):
                for way, grade in ways:
                    yield _try(way, work, count, grade)


def _ways(
    tool: str, peer: Environment | None, place: Path, notebooks: tuple[Notebook, ...], jobs: int
) -> list[Way]:
    """How `tool` grades `notebooks`, prepared in the folder `place`. Failed when its own preparation fails."""
    if peer is None:
        ours = Ours(place, notebooks)
        return [("autograder grade", lambda n: ours.grade(n, jobs))]
    if tool == "nbgrader":
        book = Nbgrader(peer, place, notebooks)
        return [("nbgrader autograde", book.grade)]
    otter = Otter(peer, place, notebooks)
    return [
        ("otter run", lambda n: otter.grade(n, jobs)),
        ("otter.api", lambda n: otter.grade(n, jobs, in_process=True)),
    ]


def scaling(jobs: int, most: int) -> Iterator[Run | str]:
    """Ever more submissions of one trivial notebook, by us."""
    with tempfile.TemporaryDirectory() as name:
        ours = Ours(Path(name), [ADD])
        for count in (n for n in SCALING if n <= most):
            yield _try("autograder grade", "scaling", count, lambda n: ours.grade(n, jobs))


def _try(way: str, work: str, count: int, grade: Callable[[int], Cost]) -> Run | str:
    try:
        costs = [grade(count)]
        if costs[0].wall_s < SHORT_S:
            costs += [grade(count), grade(count)]
        costs.sort(key=lambda cost: cost.wall_s)
        return Run(way, work, count, costs[len(costs) // 2])
    except Failed as error:
        return f"{way}, {work}, {count} submissions: not measured: {error}"
