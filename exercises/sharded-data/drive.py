"""Run beside the learner's code: let each worker read in a process of its own, and hear what Python opens there.

A real job has world_size × workers processes that share nothing but their arguments. So here each of them is a process
of its own too, which begins like a fresh one: other states of the random generators, another salt in hash().

How often a file is opened, the grader hears from the kernel. What Python says of it here is for machines whose kernel tells
nothing (macOS), where learners check their own work.
"""

import builtins
import ctypes
import hashlib
import json
import os
import random
import signal
import sys
from pathlib import Path

import torch

SET_PARENT_DEATH_SIGNAL = 1


def pack_folder(answers, folder, samples_per_shard):
    """Let `pack` make shards of the files in `folder`/data; the paths it returned, and what Python said was opened."""

    def work():
        data, out = os.path.join(folder, "data"), os.path.join(folder, "shards")
        said = answers.pack(data, out, samples_per_shard)
        if type(said) is not list or not all(isinstance(path, str | os.PathLike) for path in said):
            return type(said).__name__
        return [os.path.relpath(os.path.abspath(path), folder) for path in said]

    done = as_fresh_process(work, folder)
    return {"said": done["value"], "heard": done["heard"]}


def read(answers, folder, world_size, workers, plan, most):
    """Let every worker of every rank go through `samples` of the shards in `folder`, once for each (seed, epoch) of `plan`.

    most: samples after which a worker is stopped. One item per worker, rank 0's first: its passes, and what it opened.
    """
    return [
        read_one(answers, folder, rank, world_size, worker, workers, plan, most)
        for rank in range(world_size)
        for worker in range(workers)
    ]


def read_one(answers, folder, rank, world_size, worker, workers, plan, most):
    """The same for one worker."""
    paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]

    def work():
        mine = list(paths)
        passes = []
        for seed, epoch in plan:
            names, prints, odd = [], [], ""
            for item in answers.samples(mine, rank, world_size, worker, workers, epoch, seed):
                if type(item) is not tuple or [type(part) for part in item] != [str, bytes]:
                    odd = odd or describe(item)
                    item = ("", b"")
                names.append(item[0].replace("\n", "?"))
                prints.append(fingerprint(item[1]))
                if len(prints) == most:
                    break
            passes.append([names, prints, odd])
        return passes

    done = apart(work, folder)
    return {
        "passes": [
            {"names": "\n".join(names), "prints": torch.tensor(prints, dtype=torch.int64), "odd": odd}
            for names, prints, odd in done["value"]
        ],
        "heard": done["heard"],
        **done["habits"],
    }


def fingerprint(data):
    """A number that stands for these bytes."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=6).digest(), "big")


def describe(item):
    if type(item) in (tuple, list):
        return f"a {type(item).__name__} of {[type(part).__name__ for part in item][:5]}"
    return f"a value of type {type(item).__name__}"


def apart(work, folder):
    """`as_fresh_process` in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            text = json.dumps(as_fresh_process(work, folder))
        except BaseException as error:
            text = json.dumps({"raised": f"{type(error).__name__}: {error}"})
        try:
            with open(writing, "w") as pipe:
                pipe.write(text)
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    done = json.loads(text or '{"raised": "the process ended before it was done"}')
    if "raised" in done:
        work()  # raises here as well, where the line is found
        raise RuntimeError(done["raised"])
    return done


def as_fresh_process(work, folder):
    """`work()` as if this process had been started by itself: its value, how often which file was opened, its habits."""
    heard, habits = {}, {"written": 0, "salted": False}
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    random.seed()
    torch.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed(random.getrandbits(32))
    salt, plain_hash = os.urandom(8), builtins.hash

    def salted_hash(value):
        """As between processes that were started one by one: hash() of text is another number in each."""
        if has_text(value):
            habits["salted"] = True
            return plain_hash((salt, value))
        return plain_hash(value)

    inside = folder + os.sep

    def hear(event, args):
        if event == "open" and isinstance(args[0], str):
            path, mode, flags = args
            if path.startswith(inside):
                name = Path(path).relative_to(folder).as_posix()
                heard[name] = heard.get(name, 0) + 1
            writing = (
                set(mode) & set("wax+") if mode else (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            )
            if writing and "__pycache__" not in path and not path.startswith("/dev/"):
                habits["written"] += 1

    builtins.hash = salted_hash
    sys.addaudithook(hear)
    value = work()
    return {"value": value, "heard": heard, "habits": dict(habits)}


def has_text(value):
    return isinstance(value, str | bytes) or (
        isinstance(value, tuple | frozenset) and any(map(has_text, value))
    )
