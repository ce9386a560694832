"""Run beside the learner's code on each rank: large inputs whose result is only a number, so that little crosses."""

import torch
import torch.distributed as dist


def sum_of_the_ring(answers, tensor):
    """The sum of absolute values of the reduced tensor: one number stands for all of it."""
    return float(answers.ring_all_reduce(tensor).double().abs().sum())


def peak_of_the_ring(answers, numel):
    """Reduce a tensor made here; what counts is the memory it takes."""
    tensor = torch.full((numel,), float(dist.get_rank() + 1))
    return float(answers.ring_all_reduce(tensor)[0])
