"""Comparisons that diagnose: each either passes silently or raises a `Finding` that says what is wrong in words.

All of them work on plain values that came over the wire, in the judge's own process. None puts the expected value into
its message: a learner reads what was expected in words, what came, how far it is off and for which draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

# Diagnoses that any exercise can meet. An exercise's own [diagnoses] come first.
COMMON = {
    "raised": "Your code raised an exception. Read what it says, and begin at the line that is named.",
    "not-done": "This answer is still to be written.",
    "result-first": "The numbers are not right yet, and what it costs is judged only when they are. Mend them first.",
    "deadlock": "Some ranks wait for a message that never comes, so nobody can go on. Compare, rank by rank, who sends "
    "and who receives at each step.",
    "died": "A process ended before it returned: something called exit, or crashed below Python. gloo ends a process, too, when ranks call a collective with different sizes.",
    "timeout": "It took too long. Look for a loop without end, or work that grows faster than it should.",
    "missing": "A function that is needed here is not defined.",
    "misfit": "The exercise's own code calls your function, and could not go on: look at what it is given, and at what it "
    "must return.",
    "unsendable": "What came back cannot be compared: return plain tensors, numbers, strings, lists, tuples or dicts.",
    "wrong-type": "The result has another type than asked for.",
    "wrong-length": "The result has another number of items than asked for.",
    "wrong-shape": "The result has another shape than asked for.",
    "wrong-dtype": "The result has another dtype than asked for.",
    "not-a-number": "The result contains NaN or infinity where a number is expected.",
    "wrong-values": "The numbers are not the expected ones.",
    "ranks-differ": "The ranks do not agree with each other: each must end with the same result.",
    "too-much-traffic": "More bytes crossed the network than this algorithm needs.",
    "too-little-traffic": "Fewer bytes crossed the network than the result needs.",
    "too-much-memory": "More memory was used than this algorithm needs.",
    "out-of-memory": "It asked for more memory than it may have. Look for what grows without end, or is larger than needed.",
    "memory-held-before": "Much memory was already taken when the measured call began, so what the call itself needs cannot "
    "be told. Make tensors inside the function, and import nothing large.",
    "other-processes": "Your code started other processes beside the rank, so what the rank itself needs cannot be told.",
    "answered-in-its-place": "What came back was not made by the code that calls your answer: something answered in its "
    "place. Define the functions that are asked for, and leave the rest of the program alone.",
    "refused": "The machine did not take the job. sbatch says why.",
    "cluster-broken": "Something that ran on the supercomputer ended a part of Slurm itself, so nothing could be verified.",
    "meters-disagree": "What your program says it sent is not what crossed the network. Let ranks talk through "
    "torch.distributed only.",
}


class Finding(Exception):
    """A check that is not met: `diagnosis` is a name from the exercise or from COMMON, `message` the details."""

    def __init__(self, diagnosis: str, message: str) -> None:
        super().__init__(message)
        self.diagnosis, self.message = diagnosis, message


Likely = Mapping[str, Any]
"""Diagnosis → what the result would be if that mistake had been made: a tensor, a list with one tensor per rank, or a
number, which stands for that multiple of the right result; or a tuple of such, of which any may fit."""


def close(
    got: Any,
    want: Any,
    what: str = "the result",
    likely: Likely | None = None,
    terms: int = 1,
    slack: float = 1.0,
) -> None:
    """`got` equals `want` up to rounding. Both may be one value or a list with one value per rank.

    got: tensor, number, or list of them, from the learner. want: tensor or number for every rank, or a list, one each.
    likely: see `Likely`; the first that fits names the mistake. terms: how many numbers were added up to make one
    element; the tolerance grows with its square root. slack multiplies the tolerance.
    Raises Finding: wrong-type, wrong-length, wrong-shape, wrong-dtype, not-a-number, a likely one, or wrong-values.
    """
    for rank, (mine, right) in enumerate(_per_rank(got, want, what)):
        where = what if not isinstance(got, list) or len(got) == 1 else f"{what} on rank {rank}"
        _same_form(mine, right, where)
        tolerance = slack * _tolerance(right, terms)
        if _within(mine, right, tolerance):
            continue
        for diagnosis, wrong in (likely or {}).items():
            alternatives = wrong if isinstance(wrong, tuple) else (wrong,)
            if any(_looks_like(mine, right, one, rank, tolerance) for one in alternatives):
                raise Finding(diagnosis, f"{where}: {_difference(mine, right, tolerance)}")
        if isinstance(mine, torch.Tensor) and mine.is_floating_point() and not torch.isfinite(mine).all():
            bad = int((~torch.isfinite(mine)).sum())
            raise Finding(
                "not-a-number", f"{where}: {bad:,} of {mine.numel():,} elements are NaN or infinite"
            )
        raise Finding("wrong-values", f"{where}: {_difference(mine, right, tolerance)}")


def equal(got: Any, want: Any, what: str, diagnosis: str = "wrong-values") -> None:
    """`got` is exactly `want` (numbers, strings, lists, tuples, dicts). The message shows `got`, never `want`."""
    if type(got) is not type(want):
        raise Finding("wrong-type", f"{what} is {_a(got)}, expected {_a(want)}" + _forgotten(got))
    if got != want:
        raise Finding(diagnosis, f"{what} is not the expected one; yours: {_short(got)}")


def same_on_every_rank(got: Sequence[Any], what: str, diagnosis: str = "ranks-differ") -> None:
    """All items of `got` (one per rank) are bitwise equal tensors or equal values."""
    for rank, mine in enumerate(got[1:], 1):
        first = got[0]
        if isinstance(first, torch.Tensor) and isinstance(mine, torch.Tensor):
            alike = first.shape == mine.shape and first.dtype == mine.dtype and torch.equal(first, mine)
        else:
            alike = type(first) is type(mine) and first == mine
        if not alike:
            raise Finding(diagnosis, f"{what} on rank {rank} differs from rank 0's")


def at_most(value: float, bound: float, what: str, diagnosis: str, unit: str = "bytes") -> None:
    """`value` ≤ `bound`, both in `unit`."""
    if not value <= bound:
        raise Finding(diagnosis, f"{what}: {amount(value, unit)}; at most {amount(bound, unit)} expected")


def at_least(value: float, bound: float, what: str, diagnosis: str, unit: str = "bytes") -> None:
    """`value` ≥ `bound`, both in `unit`."""
    if not value >= bound:
        raise Finding(diagnosis, f"{what}: {amount(value, unit)}; at least {amount(bound, unit)} expected")


def that(condition: bool, diagnosis: str, message: str) -> None:
    """`condition` holds; otherwise Finding(diagnosis, message)."""
    if not condition:
        raise Finding(diagnosis, message)


def ranks(count: int) -> str:
    """`1 rank`, `4 ranks`."""
    return f"{count} rank" + ("s" if count != 1 else "")


def count(number: int, noun: str) -> str:
    """ "1 node", "2 nodes" """
    return f"{number} {noun}{'s' * (number != 1)}"


def amount(value: float, unit: str = "bytes") -> str:
    """`12.6 MB`, `1,025 elements`: a number with its unit, as one writes it."""
    if unit != "bytes":
        return f"{value:,.0f} {unit}" if float(value).is_integer() else f"{value:,.3g} {unit}"
    for size, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(value) >= size:
            return f"{value / size:.2f} {name}"
    return f"{value:.0f} bytes"


def _per_rank(got: Any, want: Any, what: str) -> list[tuple[Any, Any]]:
    if not isinstance(got, list):
        return [(got, want)]
    wants = want if isinstance(want, list) else [want] * len(got)
    if len(wants) != len(got):
        raise Finding("wrong-length", f"{what} has {len(got)} items, expected {len(wants)}")
    return list(zip(got, wants, strict=True))


def _same_form(got: Any, want: Any, what: str) -> None:
    if isinstance(want, torch.Tensor):
        if not isinstance(got, torch.Tensor):
            raise Finding("wrong-type", f"{what} is {_a(got)}, expected a tensor" + _forgotten(got))
        if got.shape != want.shape:
            raise Finding("wrong-shape", f"{what} has shape {tuple(got.shape)}, expected {tuple(want.shape)}")
        if got.dtype != want.dtype:
            raise Finding("wrong-dtype", f"{what} has dtype {_dtype(got)}, expected {_dtype(want)}")
    elif isinstance(want, bool) or not isinstance(want, int | float):
        raise TypeError(f"expect.close compares tensors and numbers, not {type(want).__name__}")
    elif isinstance(got, bool) or not isinstance(got, int | float):
        raise Finding("wrong-type", f"{what} is {_a(got)}, expected a number" + _forgotten(got))


def _tolerance(want: Any, terms: int) -> float:
    """Relative tolerance: a few roundings of the dtype for every number that was added up."""
    eps = torch.finfo(want.dtype).eps if isinstance(want, torch.Tensor) and want.is_floating_point() else 1e-9
    return 8 * eps * math.sqrt(max(1, terms))


def _within(got: Any, want: Any, tolerance: float) -> bool:
    if not isinstance(want, torch.Tensor):
        return math.isfinite(got) and abs(got - want) <= tolerance * max(1.0, abs(want))
    if not want.is_floating_point():
        return torch.equal(got, want)
    if want.numel() == 0:
        return True
    g, w = got.double(), want.double()
    if not torch.isfinite(g).all():
        return False
    # Relative to the size of the whole tensor as well: sums that nearly cancel carry their terms' rounding.
    scale = torch.clamp(w.abs(), min=float(w.abs().mean()))
    return bool(((g - w).abs() <= tolerance * scale + 1e-30).all())


def _looks_like(got: Any, right: Any, wrong: Any, rank: int, tolerance: float) -> bool:
    if isinstance(wrong, list):
        wrong = wrong[rank] if rank < len(wrong) else None
    if isinstance(wrong, int | float) and isinstance(right, torch.Tensor):
        wrong = (right.double() * wrong).to(right.dtype)
    if isinstance(right, torch.Tensor):
        if not isinstance(wrong, torch.Tensor) or wrong.shape != right.shape:
            return False
        return _within(got, wrong.to(right.dtype), 4 * tolerance) and not _within(wrong, right, tolerance)
    return isinstance(wrong, int | float) and _within(got, wrong, 4 * tolerance)


def _difference(got: Any, want: Any, tolerance: float) -> str:
    if not isinstance(want, torch.Tensor):
        return (
            f"yours is {_short(got)}, off by a factor of {got / want:.4g}"
            if want
            else f"yours is {_short(got)}"
        )
    if not want.is_floating_point():
        return f"{int((got != want).sum()):,} of {want.numel():,} elements differ"
    g, w = got.double(), want.double()
    off = (g - w).abs() > tolerance * torch.clamp(w.abs(), min=float(w.abs().mean())) + 1e-30
    largest = float((g - w).abs().nan_to_num(posinf=math.inf).max())
    text = f"{int(off.sum()):,} of {w.numel():,} elements differ, the largest by {largest:.3g}"
    first = int(off.reshape(-1).nonzero()[0]) if off.any() else 0
    if 0 < first:
        text += f"; the first {first:,} are right"
    norm = float(w.norm())
    if norm > 0 and torch.isfinite(g).all():
        factor = float((g * w).sum()) / norm**2
        if (
            abs(factor) > 1e-9
            and abs(factor - 1) > 1e-3
            and float((g - factor * w).norm()) <= 0.01 * abs(factor) * norm
        ):
            text += f"; all are {factor:.4g} times what they should be"
    return text


def _a(value: Any) -> str:
    return "nothing (None)" if value is None else f"a value of type {type(value).__name__}"


def _forgotten(value: Any) -> str:
    return "; is a `return` missing?" if value is None else ""


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "…"
