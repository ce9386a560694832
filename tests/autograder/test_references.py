"""What a judge takes for right is what PyTorch's own sharded and parallel training gives on real ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.optim import ZeroRedundancyOptimizer

from aboard import ranks
from autograder.draw import Draw
from autograder.judge import load_module

ROOT = Path(__file__).parents[2]
zero = load_module(ROOT / "exercises" / "zero" / "judge.py", "judge_of_zero")


def train_with_zero_redundancy(scale, target, start, settings, max_norm):
    """zero/drive.py's training, with the optimizer of PyTorch; several parameters, for it shares out whole ones."""
    pieces = [torch.nn.Parameter(piece.clone()) for piece in start.split(7)]
    optimizer = ZeroRedundancyOptimizer(pieces, torch.optim.AdamW, **settings)
    for _ in range(zero.STEPS):
        gradient = scale * (torch.cat([p.detach() for p in pieces]) - target)
        dist.all_reduce(gradient)
        for piece, part in zip(pieces, (gradient / dist.get_world_size()).split(7), strict=True):
            piece.grad = part.clone()
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(pieces, max_norm)
        optimizer.step()
    return torch.cat([p.detach() for p in pieces])


@pytest.mark.parametrize("world, clipped", [(2, False), (3, True), (4, False)])
def test_sharded_adamw_is_judged_by_what_zero_redundancy_optimizer_does(world, clipped):
    case = zero.Case(Draw("references", str(world)), world, 45, torch.float64)
    max_norm = 0.3 * case.first_norm() if clipped else None
    run = ranks.run(
        train_with_zero_redundancy, world, case.scales, case.targets, start=case.start, settings=case.settings,
        max_norm=max_norm,
    )  # fmt: skip
    if clipped:
        case.settings["max_norm"] = max_norm
    for got in run.outputs:
        assert torch.allclose(got, case.right(), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(case.right(), case.wrong("coupled")[0], rtol=1e-6, atol=1e-6)
