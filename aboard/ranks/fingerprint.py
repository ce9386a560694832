"""One number that stands for a tensor, so that a large result can be compared without being sent."""

from __future__ import annotations

import math

import torch

PIECE = 16_384  # elements looked at together: taking a fingerprint needs next to no memory
TURN = 1021  # so many pieces are weighted in ways of their own, each from another place in the table
_places = torch.arange(PIECE + TURN)
WEIGHTS = ((_places * 7919 + (_places // 1001) * 104_729) % 1001 + 500).double()


def fingerprint(tensor: torch.Tensor) -> float:
    """The sum of |x_i| · w_i over all elements in order, with weights w_i from 500 to 1,500 that look random.

    It changes when elements change places, and that of a sum is not the sum of those of its parts: whoever wants to
    know it needs the whole tensor. Exact for whole numbers below 2**40.
    """
    total = 0.0
    for number, piece in enumerate(tensor.detach().reshape(-1).split(PIECE)):
        first = number * 619 % TURN
        total += float(piece.double().abs() @ WEIGHTS[first : first + len(piece)])
    return total


def same_fingerprint(got: float, tensor: torch.Tensor) -> bool:
    """Whether `got` is the fingerprint of `tensor`; up to float32's rounding, when it holds no whole numbers."""
    want = fingerprint(tensor)
    if not tensor.is_floating_point():
        return got == want
    # Errors of single elements add up like a random walk, those that all have in common as they are.
    walk = 1040 * math.sqrt(float(tensor.double().square().sum()))
    return abs(got - want) <= 2e-6 * walk + 1e-6 * want
