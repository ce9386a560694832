"""What the job scripts run as `train.py`: it waits to be seen, meets the other ranks, and sends each of them some bytes.

A stand-in for a training: it needs what `torch.distributed` needs from its surroundings, and is there at once.
"""

import glob
import json
import os
import socket
import sys
import time

PAYLOAD = 1 << 20  # bytes that every rank sends to rank 0, and gets back
PATIENCE_S, LONGEST_S = 4.0, 60.0
SEEN_S = 10.0  # how long it waits for the judge to look at it, which takes a fraction of a second
JOB = os.environ.get("SLURM_JOB_ID", "0")
NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def write(kind, **said):
    name = f"{kind}-{JOB}-{socket.gethostname()}-{os.getpid()}.json"
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


class Patience:
    """Over some seconds after all ranks have started. On a busy machine some start long before others."""

    def __init__(self, world):
        self.world, self.end = world, time.monotonic() + LONGEST_S
        self.all_there = False

    def over(self):
        if not self.all_there and len(glob.glob(f"started-{JOB}-*.json")) >= self.world:
            self.all_there, self.end = True, time.monotonic() + PATIENCE_S
        return time.monotonic() > self.end


def meet(rank, world, address, port):
    """Rank 0 waits at the meeting point; everybody else goes there. Raises OSError when it does not come about."""
    patience = Patience(world)
    if rank == 0:
        with socket.create_server(("", port)) as place:
            place.settimeout(0.2)
            lines = []
            while len(lines) < world - 1:
                try:
                    lines.append(place.accept()[0])
                except TimeoutError:
                    if patience.over():
                        raise OSError("not all ranks came") from None
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
            if patience.over() or isinstance(error, (socket.gaierror, UnicodeError)):
                raise OSError(str(error)) from None
            time.sleep(0.05)
    with line:
        line.settimeout(LONGEST_S)  # rank 0 serves whoever came before, and may still wait for others
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
    write("started")
    let_it_be_seen()
    if sys.argv[1:]:
        return
    try:
        # torchrun's own meeting point stays open at its port, so this one takes the next.
        meet(
            int(found["RANK"]),
            int(found["WORLD_SIZE"]),
            found["MASTER_ADDR"],
            int(found["MASTER_PORT"]) + by_torchrun,
        )
    except (OSError, ValueError) as error:
        write("failed", rank=found["RANK"], why=str(error))
        sys.exit(f"rank {found['RANK']}: {error}")
    write("met", rank=found["RANK"])


if __name__ == "__main__":
    main()
