"""The model and the batches that every lesson shares."""

from __future__ import annotations

import math

import pytest
import torch

from aboard import lm, ranks


def test_learns_the_text():
    model = lm.Transformer(seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for step in range(40):
        loss = model.loss(*lm.batch(step, size=8, length=64))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(lm.VOCABULARY), abs=0.1)
    assert sum(losses[-5:]) / 5 < 3.2


def test_a_token_does_not_see_those_after_it():
    model = lm.Transformer(seed=1).double()
    inputs, _ = lm.batch(0, size=2, length=32)
    changed = inputs.clone()
    changed[:, 20:] = (changed[:, 20:] + 1) % lm.VOCABULARY
    before, after = model(inputs), model(changed)
    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.allclose(before[:, 20:], after[:, 20:])


def test_logits_depend_on_distance_not_on_place():
    """Rotary positions: the first token repeated gives the same attention wherever it stands."""
    model = lm.Transformer(seed=2).double()
    logits = model(torch.full((1, 16), 7))
    assert torch.allclose(logits[0, 0], logits[0, 15])


def test_embeddings_are_one_matrix():
    model = lm.Transformer()
    assert model.unembed.weight is model.embed.weight
    assert len({p.data_ptr() for p in model.parameters()}) == len(list(model.parameters()))


def test_the_same_seed_is_the_same_model_on_every_rank():
    def total():
        return sum(p.double().abs().sum().item() for p in lm.Transformer(seed=3).parameters())

    first, second = ranks.run(total, 2).outputs
    assert first == second != sum(p.double().abs().sum().item() for p in lm.Transformer(seed=4).parameters())


def test_batches_are_reproducible_and_in_order():
    inputs, targets = lm.batch(5, size=4, length=32)
    again, _ = lm.batch(5, size=4, length=32)
    assert torch.equal(inputs, again)
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert not torch.equal(inputs, lm.batch(6, size=4, length=32)[0])
    assert int(lm.corpus().max()) < lm.VOCABULARY


def test_ranks_share_one_global_batch():
    whole, _ = lm.batch(2, size=6, length=16)
    parts = [lm.batch(2, size=6, length=16)[0][rank::3] for rank in range(3)]
    assert sorted(map(tuple, torch.cat(parts).tolist())) == sorted(map(tuple, whole.tolist()))
