"""A fingerprint tells tensors apart that a sum would not, and lets rounding through."""

from __future__ import annotations

import pytest
import torch

from aboard.ranks.fingerprint import fingerprint, same_fingerprint

GENERATOR = torch.Generator().manual_seed(3)
FLOATS = torch.rand(100_003, generator=GENERATOR) - 0.5
WHOLE = torch.randint(-(2**15), 2**15, (100_003,), generator=GENERATOR, dtype=torch.int16)


def test_rounding_passes_and_whole_numbers_are_exact():
    in_another_order = ((FLOATS.double() * 3 + 1) - 1).div(3).float()
    assert same_fingerprint(fingerprint(in_another_order), FLOATS)
    assert same_fingerprint(fingerprint(WHOLE.clone()), WHOLE)


@pytest.mark.parametrize("tensor", [FLOATS, WHOLE], ids=["floats", "whole"])
@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.flip(0),
        lambda t: torch.cat([t[1:], t[:1]]),
        lambda t: t * 2,
        lambda t: torch.zeros_like(t),
        lambda t: t[torch.randperm(t.numel(), generator=GENERATOR)],
        lambda t: torch.cat([t[16_384:32_768], t[:16_384], t[32_768:]]),
    ],
    ids=["backwards", "shifted", "doubled", "zeros", "shuffled", "pieces exchanged"],
)
def test_what_is_not_the_tensor_has_another_one(tensor, change):
    assert not same_fingerprint(fingerprint(change(tensor)), tensor)


def test_one_whole_number_too_many_shows():
    changed = WHOLE.clone()
    changed[70_000] += 1
    assert not same_fingerprint(fingerprint(changed), WHOLE)


def test_it_cannot_be_added_up_from_those_of_the_parts():
    parts = [FLOATS, FLOATS.flip(0)]
    assert not same_fingerprint(sum(map(fingerprint, parts)), sum(parts))
