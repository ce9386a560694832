"""Count what a rank says to other ranks: every collective and message, with its bytes, times and the line that made it.

All of `torch.distributed`'s Python API goes through the methods of one class, `ProcessGroup`, whatever name a program
imported it under. DTensor (`full_tensor()`, `redistribute()`) talks through the operators `torch.ops._c10d_functional`
instead. `install()` wraps both in the rank's own process, so nothing in the program has to change.
What is counted here is what the program *says*; the kernel's counters (`Run.sent_bytes`) are what it *did*.

Not covered: calls that C++ code makes without passing through Python, such as DistributedDataParallel's reducer. Their
bytes are not counted; that a process waits in one is seen from outside (`blocked_in_torch`).
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import (  # type: ignore[attr-defined]
    ProcessGroup,
    Work,
    _create_work_from_future,
    _resolve_process_group,
)

from aboard.ranks.place import blocked_in_torch, calling_line

OPS = {
    "allreduce": "all_reduce",
    "allreduce_coalesced": "all_reduce",
    "broadcast": "broadcast",
    "reduce": "reduce",
    "allgather": "all_gather",
    "_allgather_base": "all_gather",
    "all_gather_single": "all_gather",
    "allgather_coalesced": "all_gather",
    "allgather_into_tensor_coalesced": "all_gather",
    "all_gather_single_coalesced": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "_reduce_scatter_base": "reduce_scatter",
    "reduce_scatter_single": "reduce_scatter",
    "gather": "gather",
    "scatter": "scatter",
    "alltoall": "all_to_all",
    "alltoall_base": "all_to_all",
    "all_to_all_single": "all_to_all",
    "barrier": "barrier",
    "monitored_barrier": "barrier",
    "send": "send",
    "recv": "recv",
    "recv_anysource": "recv",
}
# The operators of torch.distributed._functional_collectives. Each returns at once; `wait_tensor` waits for its result.
FUNCTIONAL = {
    "all_reduce": "all_reduce",
    "all_reduce_coalesced": "all_reduce",
    "all_gather_into_tensor": "all_gather",
    "all_gather_into_tensor_coalesced": "all_gather",
    "reduce_scatter_tensor": "reduce_scatter",
    "reduce_scatter_tensor_coalesced": "reduce_scatter",
    "all_to_all_single": "all_to_all",
    "broadcast": "broadcast",
}


@dataclass
class Collective:
    """One call into `torch.distributed`, as this rank saw it.

    `bytes` is the payload: the larger of what went in and what came out on this rank; for gather and scatter, one rank's
    part. `peer` is the other rank of a
    send or recv. `start` and `end` are seconds since the rank was told to go; `end` is None while it is not finished.
    `line` is the line of the program that made the call.
    """

    op: str
    bytes: int
    peer: int | None
    start: float
    end: float | None = None
    line: str = ""
    group_size: int = 0

    def wire_bytes(self, direction: str) -> int:
        """Bytes this call puts on ("send") or takes off ("recv") the network on one rank, by the usual algorithm.

        Ring algorithms: all-reduce 2(N-1)/N of the payload; all-gather, reduce-scatter, all-to-all (N-1)/N
        (Thakur, Rabenseifner and Gropp, 2005). Those with a root, on average over the ranks: broadcast, gather and
        scatter (N-1)/N; reduce, which gloo does as a reduce-scatter and a gather, (N-1)/N + (N-1)/N².
        """
        if self.op in ("send", "recv"):
            return self.bytes if self.op == direction else 0
        n = max(1, self.group_size)
        times = {"all_reduce": 2.0, "reduce": 1 + 1 / n}.get(self.op, 1.0)
        return round(times * (n - 1) / n * self.bytes)


class Meter:
    """Every collective of this process since `start()`, and what the process is waiting for right now."""

    def __init__(self) -> None:
        self.collectives: list[Collective] = []
        self.waiting: tuple[Collective, float] | None = None
        self._zero = time.monotonic()
        self._unfinished: dict[int, Collective] = {}

    def start(self) -> None:
        self.collectives.clear()
        self._zero = time.monotonic()

    def now(self) -> float:
        return time.monotonic() - self._zero

    def as_data(self) -> list[dict[str, Any]]:
        return [asdict(c) for c in self.collectives]

    def position(self) -> dict[str, Any]:
        """Where this process is, for someone who asks from outside."""
        waiting = self.waiting
        where: dict[str, Any] = {"count": len(self.collectives), "cpu": time.process_time(), "waiting": None}
        if waiting is not None:
            where["waiting"] = asdict(waiting[0])
            where["waited_s"] = time.monotonic() - waiting[1]
        else:
            where["waiting"] = blocked_in_torch()
        return where

    def install(self) -> None:
        """Wrap `ProcessGroup` and `Work.wait` in this process. Call it in the forked rank, once."""
        for method, op in OPS.items():
            original = getattr(ProcessGroup, method, None)
            if original is not None:
                setattr(ProcessGroup, method, self._metered(original, op))
        wait = Work.wait
        meter = self

        def metered_wait(work: Work, *args: Any, **kwargs: Any) -> Any:
            record = meter._unfinished.pop(id(work), None)
            if record is None:
                return wait(work, *args, **kwargs)
            meter.waiting = (record, time.monotonic())
            try:
                return wait(work, *args, **kwargs)
            finally:
                meter.waiting = None
                record.end = meter.now()
                # A work keeps its tensors alive; that memory is the program's to free.
                record.__dict__.pop("_work", None)

        Work.wait = metered_wait  # type: ignore[method-assign, assignment]
        operators: Any = torch.ops._c10d_functional
        for name, op in FUNCTIONAL.items():
            if hasattr(operators, name):
                setattr(operators, name, _Functional(getattr(operators, name), self, op))
        if hasattr(operators, "wait_tensor"):
            operators.wait_tensor = _WaitTensor(operators.wait_tensor, self)

    def _let_go_of_finished(self) -> None:
        """Forget works that are done and that nobody may ever wait for: a program may wait for their futures instead."""
        for key, record in list(self._unfinished.items()):
            work = getattr(record, "_work", None)
            if work is not None and work.is_completed():
                del self._unfinished[key]
                record.end = self.now()
                record.__dict__.pop("_work", None)

    def _metered(self, original: Any, op: str) -> Any:
        meter = self
        if op == "reduce_scatter":
            original = _reduce_scatter_of(original)

        def call(group: ProcessGroup, *args: Any, **kwargs: Any) -> Any:
            record = Collective(
                op, payload(args, op), None, meter.now(), line=calling_line(), group_size=group.size()
            )
            if op in ("send", "recv") and len(args) > 1 and type(args[1]) is int:
                record.peer = args[1]
            meter._let_go_of_finished()
            meter.collectives.append(record)
            meter.waiting = (record, time.monotonic())
            try:
                work = original(group, *args, **kwargs)
            finally:
                meter.waiting = None
            if work is not None:
                meter._unfinished[id(work)] = record
                record._work = work  # type: ignore[attr-defined]  # keeps id(work) from being used again
            return work

        return call


class _Operator:
    """Stands for an operator of torch.ops: called like it, with the same overloads."""

    def __init__(self, original: Any, meter: Meter) -> None:
        self._original, self._meter = original, meter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class _Functional(_Operator):
    """A functional collective: its last argument names the group, its first holds the input."""

    def __init__(self, original: Any, meter: Meter, op: str) -> None:
        super().__init__(original, meter)
        self._op = op

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        meter = self._meter
        record = Collective(self._op, 0, None, meter.now(), line=calling_line(), group_size=group_size(args))
        meter.collectives.append(record)
        meter.waiting = (record, time.monotonic())
        try:
            result = self._original(*args, **kwargs)
        finally:
            meter.waiting = None
        record.bytes = payload((result, args[0] if args else None), self._op)
        for tensor in result if isinstance(result, list | tuple) else [result]:
            meter._unfinished[tensor.data_ptr()] = record
        return result


class _WaitTensor(_Operator):
    def __call__(self, tensor: torch.Tensor) -> Any:
        meter = self._meter
        record = meter._unfinished.pop(tensor.data_ptr(), None)
        if record is None:
            return self._original(tensor)
        meter.waiting = (record, time.monotonic())
        try:
            return self._original(tensor)
        finally:
            meter.waiting = None
            record.end = meter.now()


def group_size(args: tuple[Any, ...]) -> int:
    """The size of the group of a functional collective: its last argument, a group or the name of one; 0 if unknown."""
    group: Any = args[-1] if args else None
    try:
        return (group if isinstance(group, ProcessGroup) else _resolve_process_group(group)).size()
    except (RuntimeError, TypeError):
        return 0


def payload(args: tuple[Any, ...], op: str) -> int:
    """Bytes of the larger side of a call: its first two arguments are its output and input. Of the smaller side when
    only the root has the other."""

    def size_of(value: Any) -> int:
        if isinstance(value, torch.Tensor):
            return value.numel() * value.element_size()
        return sum(map(size_of, value)) if isinstance(value, list | tuple) else 0

    sizes = [size for size in map(size_of, args[:2]) if size]
    return (min if op in ("gather", "scatter") else max)(sizes, default=0)


def _reduce_scatter_of(original: Any) -> Any:
    """Ours for tensors on the processor, which go through gloo; the library's own on GPUs, where it is a real one."""

    def call(group: ProcessGroup, outputs: Any, inputs: Any, *more: Any) -> Any:
        first = outputs[0] if isinstance(outputs, list) else outputs
        own = _real_reduce_scatter if first.device.type == "cpu" else original
        return own(group, outputs, inputs, *more)

    return call


def _real_reduce_scatter(group: ProcessGroup, outputs: Any, inputs: Any, opts: Any = None) -> Work:
    """A reduce-scatter that moves (N-1)/N·S bytes per rank, as the collective should.

    PyTorch's gloo backend answers reduce_scatter with an all-reduce of the whole input and keeps a slice: twice the
    bytes, so that nobody could measure what ZeRO saves. Here each rank sends every other rank its part (all-to-all)
    and sums what arrives, in rank order. Same result up to rounding, honest traffic.
    """
    nested = isinstance(outputs, list)
    output = outputs[0] if nested else outputs
    parts = list(inputs[0]) if nested else list(inputs.reshape(-1).chunk(group.size()))
    flat = torch.cat([p.reshape(-1) for p in parts])
    sizes = [p.numel() for p in parts]
    mine = output.numel()
    if len(parts) != group.size() or sizes[group.rank()] != mine:
        raise ValueError(
            f"reduce_scatter: {group.size()} ranks need {group.size()} parts, part {group.rank()} of {mine} elements; "
            f"got parts of {sizes}"
        )
    arrived = torch.empty(mine * group.size(), dtype=flat.dtype)
    reduce_op = dist.ReduceOp.SUM if opts is None else opts.reduceOp
    if not any(
        reduce_op == known for known in REDUCTIONS
    ):  # before anything is sent: later nobody would hear of it
        raise ValueError(
            "reduce_scatter on gloo: this reduction is not supported; it knows SUM, AVG, MAX, MIN and PRODUCT. "
            "A module of FSDP2 with a gradient divide factor of its own sums when told set_force_sum_reduction_for_comms(True)"
        )
    options = dist.AllToAllOptions() if hasattr(dist, "AllToAllOptions") else None
    exchange = _unmetered_all_to_all(group, arrived, flat, [mine] * group.size(), sizes, options)

    def combine(_: Any) -> list[torch.Tensor]:
        output.copy_(_reduce(arrived.view(group.size(), mine), reduce_op).view_as(output))
        return [output]

    return _create_work_from_future(exchange.get_future().then(combine))


_unmetered = getattr(ProcessGroup, "all_to_all_single", None) or ProcessGroup.alltoall_base


def _unmetered_all_to_all(
    group: Any, out: Any, into: Any, out_sizes: Any, in_sizes: Any, options: Any
) -> Work:
    from torch._C._distributed_c10d import AllToAllOptions

    return _unmetered(group, out, into, out_sizes, in_sizes, options or AllToAllOptions())


REDUCTIONS = {
    dist.ReduceOp.SUM: lambda rows: rows.sum(0),
    dist.ReduceOp.AVG: lambda rows: rows.sum(0) / rows.shape[0],
    dist.ReduceOp.MAX: lambda rows: rows.amax(0),
    dist.ReduceOp.MIN: lambda rows: rows.amin(0),
    dist.ReduceOp.PRODUCT: lambda rows: rows.prod(0),
}


def _reduce(rows: torch.Tensor, reduce_op: Any) -> torch.Tensor:
    return next(reduction for known, reduction in REDUCTIONS.items() if reduce_op == known)(rows)
