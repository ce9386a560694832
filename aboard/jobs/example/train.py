"""A training that runs anywhere PyTorch does, stops when it is told to, and goes on where it was.

Every step takes the same 64 rows, whatever the number of ranks, so the loss at the end is the same, too. The checkpoint is
written beside its place and moved there, so that no half of one is ever found. On SIGTERM (or SIGUSR1) all ranks agree on
the step after which they save and end: one of them alone would leave the others waiting.
"""

import argparse
import os
import signal
import time

import torch
import torch.distributed as dist

ROWS = 64
asked_to_stop = False


def batch(step):
    """The rows of one step: the same on every rank, in every run."""
    numbers = torch.Generator().manual_seed(step)
    x = torch.randn(ROWS, 16, generator=numbers)
    return x, torch.sin(x.sum(1, keepdim=True))


def stop(signum, frame):
    global asked_to_stop
    asked_to_stop = True


def save(path, **state):
    torch.save(state, f"{path}.part")
    os.replace(f"{path}.part", path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument(
        "--pause", type=float, default=0.0, help="seconds between steps, to have time to watch"
    )
    parser.add_argument("--checkpoint", default="checkpoint.pt")
    options = parser.parse_args()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGUSR1, stop)
    local = int(os.environ.get("LOCAL_RANK", 0))
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(local % torch.cuda.device_count())
    device = torch.device("cuda" if gpu else "cpu")
    dist.init_process_group("nccl" if gpu else "gloo")
    rank, world = dist.get_rank(), dist.get_world_size()

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    first = 0
    if os.path.exists(options.checkpoint):
        state = torch.load(options.checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    if rank == 0:
        print(f"{world} rank{'s' * (world > 1)}, step {first} of {options.steps}", flush=True)
    model = torch.nn.parallel.DistributedDataParallel(model)

    for step in range(first, options.steps):
        x, y = (part[rank::world].to(device) for part in batch(step))
        optimizer.zero_grad()
        # DDP averages over ranks, and they may have different numbers of rows: so the sum, over all rows, times the ranks.
        loss = (model(x) - y).square().sum() / ROWS
        (loss * world).backward()
        optimizer.step()
        time.sleep(options.pause)

        told = torch.tensor([loss.detach().item(), float(asked_to_stop)], device=device)
        dist.all_reduce(told)
        if rank == 0 and step % 50 == 0:
            print(f"step {step} loss {told[0].item():.5f}", flush=True)
        ending = told[1].item() > 0
        if rank == 0 and (ending or step % 50 == 49):
            save(
                options.checkpoint,
                model=model.module.state_dict(),
                optimizer=optimizer.state_dict(),
                step=step + 1,
            )
        if ending:
            if rank == 0:
                print(f"told to stop: saved after {step + 1} steps", flush=True)
            break
    else:
        x, y = batch(options.steps)
        with torch.no_grad():
            final = (model.module(x.to(device)) - y.to(device)).square().mean().item()
        if rank == 0:
            print(f"final loss {final:.4f}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
