"""Ranks on GPUs: who gets one, what is said where there is none, and that nothing here depends on the processor.

No test runs on a GPU; `make gpu-figures` does, where there is one.
"""

from __future__ import annotations

import os

import pytest
import torch
import torch.distributed as dist

from aboard import lm, ranks
from aboard.ranks import device


@pytest.fixture
def machine(monkeypatch):
    """A machine that says it has so many GPUs, with NCCL."""

    def make(count):
        monkeypatch.setattr(device, "gpus", lambda: count)
        monkeypatch.setattr(dist, "is_nccl_available", lambda: True)

    return make


def test_gpus_are_taken_only_where_each_rank_gets_one(machine):
    machine(4)
    assert [ranks.best_device(n) for n in (1, 4, 5)] == ["cuda", "cuda", "cpu"]
    machine(0)
    assert ranks.best_device(1) == "cpu"


def test_gpus_are_counted_in_another_process(monkeypatch):
    """Counting them may wake the driver, which a process that is to be forked must not do."""
    me = os.getpid()
    monkeypatch.setattr(dist, "is_nccl_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0 if os.getpid() == me else 3)
    assert device.gpus.__wrapped__() == 3
    monkeypatch.setattr(dist, "is_nccl_available", lambda: False)
    assert device.gpus.__wrapped__() == 0


def test_too_few_gpus_are_told_in_one_sentence(machine):
    machine(2)
    with pytest.raises(
        ValueError, match=r"^4 ranks need 4 GPUs, one each, but 2 can be used here; say device=.cpu."
    ):
        ranks.run(lambda: 0, 4, device="cuda")
    with pytest.raises(ValueError, match=r"device must be .cpu. or .cuda., not 'tpu'"):
        ranks.run(lambda: 0, 1, device="tpu")


def test_a_pytorch_without_nccl_is_told(monkeypatch):
    monkeypatch.setattr(dist, "is_nccl_available", lambda: False)
    monkeypatch.setattr(device, "gpus", lambda: 0)
    with pytest.raises(ValueError, match="1 rank.* need 1 GPU, one each, but this PyTorch has no NCCL"):
        ranks.run(lambda: 0, 1, device="cuda")


def test_on_gpus_each_rank_takes_its_own_and_joins_with_nccl(machine, monkeypatch):
    machine(3)
    asked = {}
    monkeypatch.setattr(torch.cuda, "set_device", lambda n: asked.update(mine=n))
    monkeypatch.setattr(torch, "set_default_device", lambda d: asked.update(default=str(d)))
    real = dist.init_process_group

    def join(backend, **more):
        asked["backend"] = backend
        real("gloo", **more)

    monkeypatch.setattr(dist, "init_process_group", join)
    run = ranks.run(lambda: asked | {"local": os.environ["LOCAL_RANK"]}, 3, device="cuda")
    assert run.outputs == [
        {"mine": r, "default": f"cuda:{r}", "backend": "cpu:gloo,cuda:nccl", "local": str(r)}
        for r in range(3)
    ]


def test_ranks_on_the_processor_see_no_gpu():
    """Else `fully_shard` makes its mesh of GPUs, although the ranks talk through gloo."""
    names = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
    before = [os.environ.get(name) for name in names]
    run = ranks.run(lambda: [os.environ.get(name) for name in names] + [dist.get_backend()], 2)
    assert run.outputs == [["-1", "-1", "gloo"]] * 2
    assert [os.environ.get(name) for name in names] == before


def test_the_books_model_and_batches_are_made_where_tensors_are_made():
    """The meta device stands for a GPU here: it is another device than the processor, and refuses its generators too."""
    with torch.device("meta"):
        model, (inputs, targets) = lm.Transformer(seed=0), lm.batch(0, 2, 8)
        loss = model.loss(inputs, targets)
    assert {t.device.type for t in (*model.parameters(), inputs, targets, loss)} == {"meta"}


def test_gradients_computed_before_the_fork_beside_a_gpu_are_told_in_the_readers_words():
    def fails():
        raise RuntimeError(
            "Unable to handle autograd's threading in combination with fork-based multiprocessing. See a page"
        )

    with pytest.raises(ranks.RanksFailed) as failure:
        ranks.run(fails, 2)
    assert "restart the kernel, and call backward() in ranks only" in str(failure.value)


def test_a_process_that_uses_a_gpu_is_not_forked(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(
        RuntimeError, match="restart the kernel and run the ranks before anything touches the GPU"
    ):
        ranks.run(lambda: 0, 2)
