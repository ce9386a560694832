"""What the job scripts run as `train.py`: it waits to be seen, meets the other ranks, and sends each of them some bytes.

A stand-in for a training: it needs what `torch.distributed` needs from its surroundings, and is there at once.
"""

import json
import os
import socket
import sys
import time

PAYLOAD = 1 << 20  # bytes that every rank sends to rank 0, and gets back
PATIENCE_S = 6.0
SEEN_S = 10.0  # how long it waits for the judge to look at it, which takes a fraction of a second
NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def write(kind, **said):
    name = f"{kind}-{os.environ.get('SLURM_JOB_ID', 0)}-{socket.gethostname()}-{os.getpid()}.json"
    with open(name + ".part", "w") as file:
        json.dump(said, file)
    os.replace(name + ".part", name)


def exactly(line, count):
    left = count
    while left:
        data = line.recv(min(left, 1 << 16))
        if not data:
            raise OSError("the other side hung up")
        left -= len(data)


def meet(rank, world, address, port):
    """Rank 0 waits at the meeting point; everybody else goes there. Raises OSError when it does not come about."""
    deadline = time.monotonic() + PATIENCE_S
    if rank == 0:
        with socket.create_server(("", port)) as place:
            lines = []
            for _ in range(world - 1):
                place.settimeout(max(0.1, deadline - time.monotonic()))
                lines.append(place.accept()[0])
            for line in lines:
                line.settimeout(PATIENCE_S)
                exactly(line, PAYLOAD)
                line.sendall(bytes(PAYLOAD))
            for line in lines:
                line.close()
        return
    while True:
        try:
            line = socket.create_connection((address, port), timeout=2)
            break
        except (OSError, UnicodeError) as error:
            if time.monotonic() > deadline or isinstance(error, (socket.gaierror, UnicodeError)):
                raise OSError(str(error)) from None
            time.sleep(0.05)
    with line:
        line.settimeout(PATIENCE_S)
        line.sendall(bytes(PAYLOAD))
        exactly(line, PAYLOAD)


def let_it_be_seen():
    """Stay until the judge has seen this process. It asks the kernel which there are, where, and with which variables."""
    deadline = time.monotonic() + SEEN_S
    while not os.path.exists(f"seen-{socket.gethostname()}-{os.getpid()}") and time.monotonic() < deadline:
        time.sleep(0.02)


def main():
    found = {name: os.environ.get(name, "") for name in NAMES}
    by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    let_it_be_seen()
    if sys.argv[1:]:
        return
    try:
        # torchrun's own meeting point stays open at its port, so this one takes the next.
        meet(int(found["RANK"]), int(found["WORLD_SIZE"]), found["MASTER_ADDR"], int(found["MASTER_PORT"]) + by_torchrun)
    except (OSError, ValueError) as error:
        write("failed", rank=found["RANK"], why=str(error))
        sys.exit(f"rank {found['RANK']}: {error}")
    write("met", rank=found["RANK"])


if __name__ == "__main__":
    main()
