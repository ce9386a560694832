"""Measure on GPUs what lessons 11 and 14 to 16 show on a processor, and write book/_data/gpu.json for their pages.

`make gpu-figures` runs it, on a machine with one or more GPUs of NVIDIA or AMD: one rank for each, through NCCL or RCCL. The
same code runs on the machine's processor through gloo, with a smaller model and as many ranks, so that a page can show both
side by side. Without a GPU nothing is written.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # fully_shard asks for it: here once, not in every rank
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer

from aboard import lm, ranks
from aboard.ranks.device import CPU, GPU, gpus

DATA = Path(__file__).resolve().parents[1] / "book/_data/gpu.json"
MiB = 2**20
NO_GPU = (
    "make gpu-figures: PyTorch finds no GPU that it can talk to here, so nothing was measured and book/_data/gpu.json stays "
    "as it is; run it on a machine with one or more GPUs, with a CUDA or ROCm build of PyTorch."
)
# How lessons 14 to 16 keep weights, gradients and optimizer state, and the ZeRO stage that is.
STYLES = {"DDP": 0, "ZeRO-1": 1, "FSDP2, kept": 2, "FSDP2, freed": 3, "FSDP2, one unit": 3}


@dataclass(frozen=True)
class Size:
    """A model, rows and tokens of a rank's batch, and how many steps are measured after two that are not."""

    config: lm.Config
    rows: int
    length: int
    steps: int


SMALL = Size(lm.Config(width=256, layers=8, heads=8, kv_heads=4, hidden=688), rows=1, length=32, steps=5)
ON_GPU = [  # the first that fits
    Size(lm.Config(width=2048, layers=16, heads=16, kv_heads=8, hidden=5504), rows=2, length=1024, steps=20),
    Size(lm.Config(width=1024, layers=16, heads=16, kv_heads=8, hidden=2752), rows=2, length=512, steps=20),
    Size(lm.Config(width=512, layers=8, heads=8, kv_heads=4, hidden=1376), rows=2, length=256, steps=20),
]


class Buckets:
    """Averages gradients in buckets of `cap` bytes, last parameter first; launched by hooks if `early` (lesson 11)."""

    def __init__(self, model: nn.Module, cap: float, early: bool) -> None:
        self.buckets: list[list[nn.Parameter]] = [[]]
        for p in reversed(list(model.parameters())):
            if self.buckets[-1] and sum(q.nbytes for q in self.buckets[-1]) + p.nbytes > cap:
                self.buckets.append([])
            self.buckets[-1].append(p)
        self.home = {p: number for number, bucket in enumerate(self.buckets) for p in bucket}
        for p in self.home:
            p.register_post_accumulate_grad_hook(self.arrived)
        self.early = early
        self.begin()

    def begin(self) -> None:
        self.missing, self.flying, self.turn = [len(bucket) for bucket in self.buckets], [], 0

    def arrived(self, p: nn.Parameter) -> None:
        self.missing[self.home[p]] -= 1
        while self.early and self.turn < len(self.buckets) and not self.missing[self.turn]:
            self.launch()

    def launch(self) -> None:
        flat = torch.cat([p.grad.flatten() for p in self.buckets[self.turn]])
        self.flying.append((flat, dist.all_reduce(flat, async_op=True)))
        self.turn += 1

    def finish(self) -> None:
        while self.turn < len(self.buckets):
            self.launch()
        for bucket, (flat, work) in zip(self.buckets, self.flying, strict=True):
            work.wait()
            flat /= dist.get_world_size()
            for p, mean in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
                p.grad.copy_(mean.view_as(p))
        self.begin()


def timed(step: Callable[[int], object], steps: int) -> float:
    """Seconds of the middle one of `steps` steps, after two that are not measured."""
    seconds = []
    for number in range(steps + 2):
        dist.barrier()
        ranks.synchronize()
        start = time.perf_counter()
        step(number)
        ranks.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])


def rows_of(size: Size, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    rank, world = dist.get_rank(), dist.get_world_size()
    inputs, targets = lm.batch(step, size.rows * world, size.length)
    return inputs[rank::world], targets[rank::world]


def overlap_on_rank(size: Size, cap: float, early: bool) -> dict[str, Any]:
    """One way of lesson 11: backward and the averaging of gradients, without an optimizer."""
    model = lm.Transformer(size.config, seed=0)
    buckets = Buckets(model, cap, early)

    def step(number: int) -> None:
        model.zero_grad()
        model.loss(*rows_of(size, number)).backward()
        buckets.finish()

    return {"seconds": timed(step, size.steps), "collectives": len(buckets.buckets)}


def shard(model: lm.Transformer, style: str) -> None:
    """As in lesson 16."""
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    if style != "FSDP2, one unit":
        for block in model.blocks:
            fully_shard(block, mp_policy=policy, reshard_after_forward=style == "FSDP2, freed")
    fully_shard(model, mp_policy=policy)


def stage_on_rank(size: Size, style: str) -> dict[str, Any]:
    """One way to keep the training state, with AdamW; on a GPU with the most memory that PyTorch took there."""
    ranks.exact_memory()
    model = lm.Transformer(size.config, seed=0)
    whole = style in ("DDP", "ZeRO-1")
    if not whole:
        shard(model, style)
    if style == "ZeRO-1":
        optimizer: Any = ZeroRedundancyOptimizer(model.parameters(), torch.optim.AdamW, lr=1e-3)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()  # the whole model, which each rank made first, does not count

    def step(number: int) -> None:
        optimizer.zero_grad()
        model.loss(*rows_of(size, number)).backward()
        for p in model.parameters() if whole else ():
            dist.all_reduce(p.grad)
            p.grad /= dist.get_world_size()
        optimizer.step()

    seconds = timed(step, size.steps)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else None
    return {"seconds": seconds, "peak_bytes": peak, "parameters": sum(p.numel() for p in model.parameters())}


def overlap(size: Size, world: int, device: str) -> Iterator[dict[str, Any]]:
    """Rows of lesson 11's table: seconds of the slowest rank, by bucket, with and without overlap."""
    gradients = 4 * parameters_of(size)
    for cap in [*(n * MiB for n in (1, 5, 25, 100, 400) if n * MiB < gradients), float("inf")]:
        for early in (False, True):
            one = partial(overlap_on_rank, size, cap, early)
            run = ranks.run(one, world, device=device, timeout_s=600)
            slowest = max(out["seconds"] for out in run.outputs)
            yield {
                "bucket_mib": None if cap == float("inf") else cap // MiB, "overlap": early, "seconds": slowest,
                "collectives": run.outputs[0]["collectives"],
            }  # fmt: skip


def stages(size: Size, world: int, device: str) -> Iterator[dict[str, Any]]:
    """Rows of the tables of lessons 14 to 16: seconds, peak memory of the fullest rank, bytes a rank sends in a step."""
    for style, stage in STYLES.items():
        run = ranks.run(partial(stage_on_rank, size, style), world, device=device, timeout_s=600)
        on_gpu = [out["peak_bytes"] for out in run.outputs]
        yield {
            "style": style, "stage": stage, "seconds": max(out["seconds"] for out in run.outputs),
            "peak_bytes": max(run.peak_bytes or [0]) if device == CPU else max(on_gpu),
            "sent_bytes_per_parameter": run.sent()[0] / (size.steps + 2) / run.outputs[0]["parameters"],
        }  # fmt: skip


def parameters_of(size: Size) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in lm.Transformer(size.config).parameters())


def fitting(memory: int) -> Size:
    """The largest model whose training state, gradients and copies, twice 16 bytes a parameter, fit in `memory` bytes."""
    return next((size for size in ON_GPU if 32 * parameters_of(size) < memory), ON_GPU[-1])


def about_gpu() -> dict[str, Any]:
    """Run on a rank: what GPU this is, and which library talks."""
    about = torch.cuda.get_device_properties(torch.cuda.current_device())
    version = torch.cuda.nccl.version()
    name = "RCCL" if torch.version.hip else "NCCL"
    return {
        "device": about.name,
        "memory_bytes": about.total_memory,
        "library": f"{name} {'.'.join(map(str, version))}",
    }


def measure(size: Size, world: int, device: str, tell: Callable[[str], object] = print) -> dict[str, Any]:
    """Both tables on one device."""
    about = asdict(size) | {"parameters": parameters_of(size)}
    told: dict[str, Any] = {"size": about, "ranks": world, "overlap": [], "stages": []}
    for table, rows in (("overlap", overlap(size, world, device)), ("stages", stages(size, world, device))):
        for row in rows:
            tell(f"{device}: {table}: {', '.join(f'{key} {value}' for key, value in row.items())}")
            told[table].append(row)
    return told


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=DATA, help="where the figures go")
    parser.add_argument("--most", type=int, default=8, help="take no more GPUs than this")
    chosen = parser.parse_args(arguments)
    world = min(gpus(), chosen.most)
    if world < 1:
        print(NO_GPU, file=sys.stderr)
        return 1
    about = ranks.run(about_gpu, world, device=GPU).outputs[0]
    figures = {
        "measured": about | {
            "count": world, "torch": torch.__version__, "date": date.today().isoformat(),
            "processor": platform.processor() or platform.machine(),
        },
        GPU: measure(fitting(about["memory_bytes"]), world, GPU),
        CPU: measure(SMALL, world, CPU),
    }  # fmt: skip
    chosen.out.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    print(f"Written: {chosen.out}. `make book` shows it in lessons 11 and 14 to 16.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
