"""What N ranks are asked to run, and what comes back: a call, a run, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aboard.ranks.meter import Collective


@dataclass
class Call:
    """What every rank is asked to run. `args` are per rank: args[k][r] is positional argument k of rank r.

    later: what the function is given while it runs, when it is a generator. Each time rank r yields a value it gets the
    next one, later[0][r], later[1][r], …; until then nothing of it is there. Values it yields are small. count_sent:
    each time, ask the kernel how much the rank has sent.
    files: what lies in a folder that each rank gets for this call, path → bytes (path/ → b"" for an empty folder); its path
    becomes the function's first argument. None: no folder. end_after: each rank is ended when something in its folder has
    changed so often, wherever it is then (0: never).
    """

    function: str
    args: list[list[Any]]
    kwargs: dict[str, Any]
    world_size: int  # 0: one process, no group
    drive: bool = False
    timeout_s: float = 60.0
    address: str = ""  # where the ranks meet: a file they share, or the IP address of rank 0
    interface: str = ""
    later: list[list[Any]] = field(default_factory=list)
    count_sent: bool = False
    device: str = "cpu"  # or "cuda": a GPU for each rank (`device`)
    files: dict[str, bytes] | None = None
    end_after: int = 0
    folders: list[str] = field(default_factory=list)  # path of each rank's folder, as that rank sees it


@dataclass
class Traffic:
    """What the kernel counted of one rank's network in a stretch of time.

    bytes, packets: sent on its interface, with headers and with packets that only acknowledge. segments: TCP segments with data,
    each counted once however often it had to be sent, and datagrams; on its interface and to itself. connections: its ends
    of connections that were made.
    """

    bytes: int
    packets: int
    segments: int
    connections: int


@dataclass
class Counters:
    """What the kernel counted for each rank during the call, or None where it cannot be asked.

    held_before_bytes: memory each rank had taken when the call was made, beyond that of a fresh one. early_bytes,
    late_bytes: the most it took between then and "go", and between its return and its report, inputs and outputs apart.
    strangers: processes beside each rank that were started by it or for it. meeting, traffic: what each rank's network carried
    before "go", and from "go" until the rank has told what there was to tell.
    """

    sent_bytes: list[int] | None = None
    received_bytes: list[int] | None = None
    peak_bytes: list[int] | None = None
    held_before_bytes: list[int] | None = None
    early_bytes: list[int] | None = None
    late_bytes: list[int] | None = None
    strangers: list[int] | None = None
    meeting: list[Traffic] | None = None
    traffic: list[Traffic] | None = None


@dataclass
class Kept:
    """What became of the folder that one rank was given.

    files: what lay there afterwards, path → bytes. opened: path → how often the file was opened, as the kernel counted it
    outside of the rank's process; None where it cannot be asked. ended: the rank was ended, as `Call.end_after` asks.
    whole: False when more lay there than is taken back, so that files are missing or cut off.
    """

    files: dict[str, bytes]
    opened: dict[str, int] | None
    ended: bool
    whole: bool


@dataclass
class Run:
    """What came back from N ranks.

    outputs: one value per rank. said: per rank, what it yielded on the way; with each, how many collectives it had called by then, and
    what its interface had sent: bytes, from the kernel. collectives: per rank, every call into torch.distributed as that rank's own process
    counted it. sent_bytes, received_bytes: per rank, what its network interface carried, headers included, from the
    kernel; None where ranks share one interface. peak_bytes: per rank, growth of its memory above what it had when it
    got "go". seconds: from "go" to the last rank's return. kept: per rank, its folder, where the call gave it one.
    """

    world_size: int
    outputs: list[Any] = field(default_factory=list)
    collectives: list[list[Collective]] = field(default_factory=list)
    counters: Counters = field(default_factory=Counters)
    seconds: float = 0.0
    said: list[list[Any]] = field(default_factory=list)
    called_by_then: list[list[int]] = field(default_factory=list)
    sent_by_then: list[list[int]] | None = None
    kept: list[Kept] = field(default_factory=list)

    @property
    def peak_bytes(self) -> list[int] | None:
        return self.counters.peak_bytes

    @property
    def kernel_counted(self) -> bool:
        """True when `sent_bytes` and `received_bytes` come from the kernel's counters of each rank's own interface."""
        return self.counters.sent_bytes is not None

    @property
    def sent_bytes(self) -> list[int] | None:
        return self.counters.sent_bytes

    @property
    def received_bytes(self) -> list[int] | None:
        return self.counters.received_bytes

    def ops(self, rank: int = 0) -> list[str]:
        """The names of rank's collectives in order: ["send", "recv", "all_reduce", …]."""
        return [c.op for c in self.collectives[rank]]

    def payload_bytes(self, *ops: str) -> list[int]:
        """Per rank, the sum of the payloads of its collectives named in `ops` (of all, when none is named)."""
        return [sum(c.bytes for c in rank if not ops or c.op in ops) for rank in self.collectives]

    def sent(self) -> list[int]:
        """Bytes each rank sent: from the kernel where it counts per rank, else worked out from its collectives."""
        return self.sent_bytes or [sum(c.wire_bytes("send") for c in rank) for rank in self.collectives]

    def received(self) -> list[int]:
        """Bytes each rank received, like `sent`."""
        return self.received_bytes or [sum(c.wire_bytes("recv") for c in rank) for rank in self.collectives]

    def sent_when_said(self) -> list[list[int]]:
        """Bytes each rank had sent each time it yielded, like `sent`. What it was given for that was not there before.

        ValueError where the kernel counts, and the call did not ask it to.
        """
        if self.kernel_counted and not self.sent_by_then:
            raise ValueError("the call did not ask for what was sent on the way")
        return self.sent_by_then or [
            [sum(c.wire_bytes("send") for c in made[:count]) for count in counts]
            for made, counts in zip(self.collectives, self.called_by_then, strict=True)
        ]

    def timeline(self, title: str = "") -> Any:
        """A figure of who communicated when: one row per rank, one bar per collective."""
        from aboard.ranks.timeline import draw

        return draw(self, title)


class RanksFailed(Exception):
    """A call that did not come back whole.

    kind: "raised", "not-done", "deadlock", "died", "timeout", "missing", "unsendable". `str()` is the sentence for the learner;
    `rank` is the first rank it happened to; `states` has a line for every rank.
    """

    def __init__(
        self, kind: str, message: str, rank: int | None = None, states: list[str] | None = None
    ) -> None:
        super().__init__(message)
        self.kind, self.rank, self.states = kind, rank, states or []
