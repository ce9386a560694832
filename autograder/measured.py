"""A run whose meters are believed only when what the ranks said of themselves agrees with what the kernel counted."""

from __future__ import annotations

from aboard.ranks import gloo
from aboard.ranks.call import Run, Traffic
from aboard.ranks.meter import Collective
from autograder.expect import Finding, amount

HELD_BEFORE = 16 * 2**20  # bytes a rank may hold when a call is made: modules an answer imports, small tables
AROUND = 12 * 2**20  # bytes a rank may take to meet the others, and to report
AROUND_CALLS = 6  # segments of a rank beside those of its calls: none was seen, but drive.py may ask the store for something
HEADERS = 66  # bytes of a packet that are no data: Ethernet's, IP's and TCP's with its time stamps


class MeasuredRun(Run):
    """A run whose meters are believed only when they agree.

    Bytes, messages and memory are the kernel's. What the ranks said of themselves is compared with it when a judge reads either:
    traffic that no collective accounts for, collectives whose bytes or messages never travelled, and memory taken before the
    call so that it would not show as growth, each end in a Finding.
    """

    def sent(self) -> list[int]:
        self._meters_agree()
        return super().sent()

    def received(self) -> list[int]:
        self._meters_agree()
        return super().received()

    def ops(self, rank: int = 0) -> list[str]:
        """Which calls rank made: as many as there are messages for, no more and no fewer."""
        self._meters_agree()
        self._messages_agree()
        return super().ops(rank)

    def sent_when_said(self) -> list[list[int]]:
        self._meters_agree()
        return super().sent_when_said()

    @property
    def peak_bytes(self) -> list[int] | None:
        self._meters_agree()  # what is parked with another rank, or on the way there, is in no account of memory
        counters = self.counters
        for counted, most, when in (
            (counters.held_before_bytes, HELD_BEFORE, "before the call"),
            (counters.early_bytes, AROUND, "before the call began"),
            (counters.late_bytes, AROUND, "after it was said to be over"),
        ):
            for rank, taken in enumerate(counted or []):
                if taken > most:
                    raise Finding("memory-held-before", f"{amount(taken)} on rank {rank} {when}")
        for rank, count in enumerate(counters.strangers or []):
            if count > 0:
                raise Finding("other-processes", f"at least {count} beside rank {rank}")
        # What was taken around the call may have served it: it counts as if it had been taken in it.
        peak, held = counters.peak_bytes, counters.held_before_bytes
        early, late = counters.early_bytes, counters.late_bytes
        if peak is None or held is None or early is None or late is None:
            return peak
        return [h + e + max(p, la) for p, h, e, la in zip(peak, held, early, late, strict=True)]

    def _meters_agree(self) -> None:
        counted = self.counters.sent_bytes
        if counted is None:
            return
        told = self._told_bytes()
        # Headers and acknowledgements, the ranks' meeting, and a few hundred bytes for every message of a collective.
        ends = sum(self._group(c) for rank in self.collectives for c in rank)
        most = 1.08 * told + 100_000 * self.world_size + 500 * ends
        if not 0.9 * told - 100_000 <= sum(counted) <= most:
            raise Finding(
                "meters-disagree",
                f"the ranks' calls to torch.distributed account for {amount(told)}; the network carried "
                f"{amount(sum(counted))}",
            )

    def _told_bytes(self) -> float:
        calls = [c for rank in self.collectives for c in rank]
        return sum((c.wire_bytes("send") + c.wire_bytes("recv")) / 2 for c in calls)

    def _group(self, call: Collective) -> int:
        """How many ranks took part: no more than there are, whatever is said."""
        return max(1, min(call.group_size, self.world_size))

    def _messages_agree(self) -> None:
        """Compare the calls that were told with the messages that the kernel counted, for all ranks together.

        Untold calls show as messages too many. Few bytes hide none, for a message is a TCP segment of its own: to the segment as
        many as `gloo.messages` says were seen, on a busy machine too. Calls that were made up show as packets too few: what small
        messages there must be, at the least, did not leave on the wire. Who sends them for nothing passes, and pays for them.
        """
        meeting, traffic = self.counters.meeting, self.counters.traffic
        if meeting is None or traffic is None:
            return
        told = [c for rank in self.collectives for c in rank]
        expected = [(gloo.messages(c.op, c.bytes, self._group(c)), self._group(c)) for c in told]
        least, most = (
            gloo.SEGMENTS_OF_A_MESSAGE * sum(bounds[i] / n for bounds, n in expected) for i in (0, 1)
        )
        carried = sum(max(0, t.bytes - HEADERS * t.packets) for t in traffic)
        # Data fills segments; some leave half full, where a buffer was.
        most += 1.05 * min(1.1 * self._told_bytes(), carried) / gloo.SEGMENT_BYTES
        segments = sum(t.segments for t in traffic)
        before = sum(t.segments for t in meeting)
        beside = AROUND_CALLS * self.world_size + _of_meetings(traffic)
        if segments > most + beside or before > _of_meetings(meeting):
            raise Finding(
                "meters-disagree",
                f"the ranks told of {len(told)} calls to torch.distributed, for which {most:.0f} segments of TCP are enough; "
                f"the network carried {segments}, and {before} before the call began",
            )
        packets = sum(t.packets for t in traffic)
        if packets < 0.8 * least:
            raise Finding(
                "meters-disagree",
                f"the ranks told of {len(told)} calls to torch.distributed, for which {least:.0f} messages are needed; the "
                f"network carried {packets} packets",
            )


def _of_meetings(traffic: list[Traffic]) -> int:
    """Segments that the ranks may need to form as many groups as they made connections for. Less than half of it was seen:
    the busier the machine, the more often a rank asks the store whether the others are there."""
    ends = sum(t.connections for t in traffic)
    return 16 * ends + 10 * len(traffic) if ends else 0
