"""How gloo puts a collective on the wire: how many messages the ranks send each other for it, all ranks together.

Bytes do not tell a barrier from none, nor one collective from ten: messages do. For each message gloo sends three: one that
announces it, one that says there is room for it, and the message itself; each is a TCP segment of its own, and what does not
fit in the first segment follows in more of them. Counted on 2, 3, 4 and 8 ranks with 4 bytes to 8 MB, to the segment, also when
the machine had six times as much to do as it has processors.
"""

from __future__ import annotations

SEGMENTS_OF_A_MESSAGE = 3
SEGMENT_BYTES = 1448  # of data in a full TCP segment on an interface with the usual MTU of 1500
LARGEST_ITEM, SMALLEST_ITEM = 8, 1  # bytes of one element: a call's dtype is not known here


def messages(op: str, payload: int, ranks: int) -> tuple[float, float]:
    """The fewest and the most messages of one collective `op` of `payload` bytes, of all `ranks` together.

    A rank's part of a call is 1/ranks of it. For a send it is the whole message, and a recv sends none.
    """
    n = max(1, ranks)
    if op in ("send", "recv"):
        return (n if payload else 0, n) if op == "send" else (0, 0)
    if n == 1 or op not in _MESSAGES:
        return 0, 0
    least, most = _MESSAGES[op](payload, n)
    return (least if payload or op == "barrier" else 0), most


def _barrier(_: int, n: int) -> tuple[float, float]:
    """Dissemination: ceil(log2 N) rounds. A monitored barrier goes to rank 0 and back."""
    return min(2 * (n - 1), n * (n - 1).bit_length()), n * (n - 1).bit_length()


def _from_a_root(_: int, n: int) -> tuple[float, float]:
    return n - 1, n - 1


def _all_to_all(_: int, n: int) -> tuple[float, float]:
    return n * (n - 1), n * (n - 1)


def _all_gather(_: int, n: int) -> tuple[float, float]:
    """A ring in which each part travels in two pieces."""
    return 2 * n * (n - 1), 2 * n * (n - 1)


def _all_reduce(payload: int, n: int) -> tuple[float, float]:
    """A ring of 2N pieces, fewer when there are not that many elements; each goes round twice, N-1 hops."""
    fewest = payload // LARGEST_ITEM
    pieces = 2 * n if fewest >= (2 * n) ** 2 else max(1, min(n, fewest))
    return 2 * (n - 1) * pieces, 2 * (n - 1) * min(2 * n, max(1, payload // SMALLEST_ITEM))


def _reduce(_: int, n: int) -> tuple[float, float]:
    """The first half of an all-reduce, and the parts to the root."""
    return n - 1, 2 * n * (n - 1) + n - 1


def _reduce_scatter(payload: int, n: int) -> tuple[float, float]:
    """An all-to-all as `meter` does it, an all-reduce where the library's own is called."""
    return n * (n - 1), max(n * (n - 1), _all_reduce(payload, n)[1])


_MESSAGES = {
    "barrier": _barrier, "broadcast": _from_a_root, "gather": _from_a_root, "scatter": _from_a_root,
    "reduce": _reduce, "all_reduce": _all_reduce, "all_gather": _all_gather, "all_to_all": _all_to_all,
    "reduce_scatter": _reduce_scatter,
}  # fmt: skip
