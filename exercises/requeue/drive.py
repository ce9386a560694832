"""The training that checkpoints are made of. On ranks it is driven step by step; as `train.py` of a job it runs by itself.

Every step takes the same rows, whatever the number of ranks, and its noise is drawn for all of them by every rank, so
that the numbers of a run do not depend on how many share it. Where a run begins is handed in, and is another place for the
one that goes on: what it needs of the first one, it has from the checkpoint only.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import torch
import torch.distributed as dist

SAMPLES, BATCH, WIDTH, STEPS = 60, 12, 6, 24
MOST_SAVES = 18  # of `save_on`


def weights_of(hidden):
    """How many weights a model has."""
    return WIDTH * hidden + hidden + hidden + 1


WEIGHTS = weights_of(8)


class Adam(torch.optim.Adam):
    """The same without the wrappers that keep torch.compile off: they import it, which takes each process of a job nearly as
    long as PyTorch itself. Nothing is compiled here."""

    add_param_group, zero_grad, state_dict, load_state_dict = (
        getattr(torch.optim.Adam, name).__wrapped__
        for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    )
    step = torch.no_grad()(torch.optim.Adam.step.__wrapped__)


class Order:
    """The samples' numbers, batch by batch, shuffled anew in every epoch."""

    def __init__(self, seed):
        self.seed, self.epoch, self.at = seed, 0, 0

    def next(self):
        if self.at == SAMPLES:
            self.epoch, self.at = self.epoch + 1, 0
        mixed = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(self.seed + self.epoch))
        self.at += BATCH
        return mixed[self.at - BATCH : self.at]

    def state_dict(self):
        return {"epoch": self.epoch, "at": self.at}

    def load_state_dict(self, state):
        self.epoch, self.at = state["epoch"], state["at"]


class Training:
    """seed: of the data and their order. begin: {"weights": [weights_of(hidden)] numbers, "noise": a seed}."""

    def __init__(self, seed, begin, rank=0, world=1):
        self.rank, self.world = rank, world
        self.data = torch.randn(
            SAMPLES, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        numbers = torch.as_tensor(begin["weights"], dtype=torch.float64)
        hidden = len(numbers) // (WIDTH + 2)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(WIDTH, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, 1)
        ).double()
        with torch.no_grad():
            for weight in self.model.parameters():
                weight.copy_(numbers[: weight.numel()].view(weight.shape))
                numbers = numbers[weight.numel() :]
        self.optimizer = Adam(self.model.parameters(), lr=0.05)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)
        self.order = Order(seed)
        self.generator = torch.Generator().manual_seed(begin["noise"])
        self.step = 0

    def one_step(self):
        """One step on a batch that all ranks share; its loss, and the numbers of its samples."""
        taken = self.order.next()
        noise = 0.3 * torch.randn(BATCH, WIDTH, generator=self.generator, dtype=torch.float64)
        mine = slice(self.rank, None, self.world)
        x = self.data[taken]
        y = torch.sin(x.sum(1, keepdim=True))
        self.optimizer.zero_grad()
        loss = (self.model(x[mine] + noise[mine]) - y[mine]).square().sum() / BATCH
        loss.backward()
        total = loss.detach().clone()
        if self.world > 1:
            dist.all_reduce(total)
            for weight in self.model.parameters():
                dist.all_reduce(weight.grad)
        self.optimizer.step()
        self.scheduler.step()
        self.step += 1
        return total.item(), taken.tolist()

    def quick_step(self):
        """Other weights and another number, in no time."""
        with torch.no_grad():
            for weight in self.model.parameters():
                weight.add_(0.01)
        self.step += 1

    def weights(self):
        return torch.cat([weight.detach().reshape(-1) for weight in self.model.parameters()])


def rate(step):
    return min(1.0, (step + 1) / 8) * 0.5 ** (step / 20)


# --- driven on ranks


def train(answers, seed, begin, files, until):
    """Go on from `files` (name → bytes), if there are any, until step `until`, and save."""
    training = Training(seed, begin, dist.get_rank(), dist.get_world_size())
    with tempfile.TemporaryDirectory() as folder:
        unpack(files, folder)
        resumed = bool(answers.load(training, folder))
        first, losses, taken = int(training.step), [], []
        everybody = [torch.zeros(1) for _ in range(training.world)]
        dist.all_gather(everybody, torch.tensor([float(first)]))
        # Who began elsewhere would wait for the others for ever
        together = len({one.item() for one in everybody}) == 1
        for _ in range(until - first if together else 0):
            loss, numbers = training.one_step()
            losses.append(loss)
            taken.append(numbers)
        if together:
            answers.save(training, folder)
        return {
            "first": first, "resumed": resumed, "losses": losses, "taken": taken,
            "weights": training.weights(), "files": pack(folder),
        }  # fmt: skip


def interrupted(answers, seed, begin, again, earlier, later):
    """Save after `earlier` steps, then again and again after `later`, and be ended in the middle each time.

    Returns what a training that begins at `again` finds afterwards, each time: "step" and "weights" (no weights: `load` found
    nothing), or the "error".
    """
    training = Training(seed, begin)
    found, kept = [], tempfile.mkdtemp()
    try:
        while training.step < earlier:
            training.one_step()
        answers.save(training, kept)
        size = max((os.path.getsize(os.path.join(kept, name)) for name in os.listdir(kept)), default=0)
        while training.step < later:
            training.one_step()
        ways = [("full", int(size * share)) for share in (0.0, 0.3, 0.9)] + [
            ("event", n) for n in range(1, 9)
        ]
        ways += [("starved", n) for n in range(1, 5)]
        for how, at in ways:
            folder = tempfile.mkdtemp()
            shutil.copytree(kept, folder, dirs_exist_ok=True)
            child = os.fork()
            if child == 0:
                end_while_saving(answers, training, folder, how, at)
            await_child(child)
            found.append(what_is_there(answers, Training(seed, again), folder))
            shutil.rmtree(folder)
    finally:
        shutil.rmtree(kept)
    return {"found": found}


def end_while_saving(answers, training, folder, how, at):
    """In a process of its own: save, and end in the middle of it. Never returns."""
    try:
        alone = lambda *args, **kwargs: None  # noqa: E731
        for name in (
            "barrier",
            "monitored_barrier",
            "all_reduce",
            "broadcast",
            "all_gather_object",
            "broadcast_object_list",
        ):
            setattr(dist, name, alone)  # nobody else is there
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        if how == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (at, at))
        else:
            left = [at]

            def count(event, args):
                changes = event in (
                    "os.rename",
                    "os.remove",
                    "os.rmdir",
                    "os.link",
                    "os.symlink",
                    "os.truncate",
                    "shutil.move",
                    "shutil.copyfile",
                    "shutil.rmtree",
                )
                if event == "open":
                    mode, flags = args[1], args[2]
                    changes = (
                        isinstance(mode, str)
                        and mode[:1] in ("w", "a", "x")
                        or isinstance(flags, int)
                        and flags & os.O_WRONLY
                    )
                if changes:
                    left[0] -= 1
                    if how == "event" and left[0] < 0:
                        os._exit(0)
                    # What is opened now is emptied, and nothing can be written
                    if how == "starved" and left[0] <= 0:
                        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

            sys.addaudithook(count)
        answers.save(training, folder)
    finally:
        os._exit(0)


def await_child(child):
    for _ in range(300):
        if os.waitpid(child, os.WNOHANG)[0]:
            return
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def save_once(answers, folder, seed, begin, steps):
    """Save after `steps` steps."""
    training = Training(seed, begin)
    while training.step < steps:
        training.one_step()
    answers.save(training, folder)


def save_on(answers, folder, seed, begin, steps):
    """Go on after `steps` steps, save after each further quick one, and say its number when that is done.

    It will be ended meanwhile, so nearly all of the time is spent in saving. Where the end comes late, it waits: who keeps all
    checkpoints must not fill the folder.
    """
    training = Training(seed, begin)
    while training.step < steps:
        training.one_step()
    for _ in range(MOST_SAVES):
        training.quick_step()
        answers.save(training, folder)
        yield int(training.step)
    time.sleep(10)


def load_from(answers, folder, seed, again):
    """What a training that begins at `again` finds in `folder`."""
    return what_is_there(answers, Training(seed, again), folder)


def what_is_there(answers, fresh, folder):
    nothing = {"step": 0, "weights": torch.zeros(0), "error": ""}
    try:
        if not answers.load(fresh, folder):
            return nothing
        return {"step": int(fresh.step), "weights": fresh.weights(), "error": ""}
    except Exception as error:
        return nothing | {"error": f"{type(error).__name__}: {str(error)[:120]}"}


def stopping(answers, when, steps):
    """What Stop says after each step; this rank gets SIGTERM during step `when` (never when it is below 0)."""
    stop, told = answers.Stop(), []
    for step in range(steps):
        if step == when:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.02)
        told.append(bool(stop()))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return {"told": told}


def pack(folder):
    files = {}
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            with open(path, "rb") as file:
                files[name] = torch.frombuffer(bytearray(file.read() or b"\0"), dtype=torch.uint8).clone()
    return files


def unpack(files, folder):
    for name, content in files.items():
        with open(os.path.join(folder, os.path.basename(name)), "wb") as file:
            file.write(content.numpy().tobytes())


# --- as train.py of a job


def main():
    import answers

    with open("settings.json") as file:
        settings = json.load(file)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    training = Training(settings["seed"], settings["begin"], rank, world)
    stop = answers.Stop()
    os.makedirs("checkpoints", exist_ok=True)
    answers.load(training, "checkpoints")
    run = os.environ.get("SLURM_JOB_ID", "0")
    if rank == 0:
        print(f"step {training.step} of {STEPS} on {world} ranks", flush=True)
        note(f"began-{run}.json", step=int(training.step), world=world)
    losses = []
    while training.step < STEPS:
        losses.append(training.one_step()[0])
        time.sleep(settings["pause"])
        if rank == 0:
            note(f"at-{run}.json", step=int(training.step))
        if stop():
            state = job_state(run) if rank == 0 else ""
            answers.save(training, "checkpoints")
            if rank == 0:
                note(f"stopped-{run}.json", step=int(training.step), state=state)
            break
    else:
        if rank == 0:
            note(f"done-{run}.json", step=int(training.step), losses=losses)
    dist.destroy_process_group()


def job_state(job):
    """What Slurm says of the job while it is told to stop: RUNNING, or that its processes are being ended already.

    On a machine that is busy with other things, slurmctld does not always answer; no answer is none of the two.
    """
    for _ in range(10):
        said = subprocess.run(["scontrol", "show", "job", "-o", job], capture_output=True, text=True).stdout
        if "JobState=" in said:
            return said.partition("JobState=")[2].partition(" ")[0]
        time.sleep(0.5)
    return "not known to Slurm"


def note(name, **said):
    with open(name + ".part", "w") as file:
        json.dump(said, file)
    os.replace(name + ".part", name)


if __name__ == "__main__":
    main()
