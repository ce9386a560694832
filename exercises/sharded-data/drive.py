"""Run beside the learner's code: make files, let each worker read in a process of its own, and count what is opened.

A real job has world_size × workers processes that share nothing but their arguments. So here each of them is a process
of its own too, which begins like a fresh one: other states of the random generators, another salt in hash().
"""

import builtins
import ctypes
import hashlib
import json
import os
import random
import select
import signal
import struct
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import torch

NONBLOCK, CLOEXEC = 0o4000, 0o2000000
ACCESS, CLOSED, OPENED, FOLDER, OVERFLOW = (
    0x1,
    0x8 | 0x10,
    0x20,
    0x40000000,
    0x4000,
)  # of the kernel's inotify.h
MARK = ".first-sample"  # opened by a worker when its first sample has come, so that it stands among what it opened
SET_PARENT_DEATH_SIGNAL = 1


def pack_folder(answers, names, sizes, contents, samples_per_shard):
    """Write the files, let `pack` make shards of them; the shards' bytes, and how often files were opened.

    names: relative paths, one a line. sizes: bytes of each file. contents: all their bytes, one after the other.
    """
    with tempfile.TemporaryDirectory() as root:
        folder, out = Path(root, "data"), Path(root, "shards")
        out.mkdir()
        names = names.split("\n")
        data, start = contents.numpy().tobytes(), 0
        for parent in sorted({str(Path(name).parent) for name in names}):
            (folder / parent).mkdir(parents=True, exist_ok=True)
        for name, size in zip(names, sizes, strict=True):
            (folder / name).write_bytes(data[start : start + size])
            start += size

        def work():
            said = answers.pack(str(folder), str(out), samples_per_shard)
            if type(said) is not list or not all(isinstance(path, str | os.PathLike) for path in said):
                return type(said).__name__
            return [os.path.abspath(path) for path in said]

        with Watch([out, folder, *(path for path in folder.rglob("*") if path.is_dir())]) as watch:
            said, opened, _ = apart(work, watch)
        shards = sorted(path for path in out.rglob("*") if path.is_file())
        known = {str(path): number for number, path in enumerate(shards)}
        return {
            "said": said if type(said) is str else [known.get(path, -1) for path in said],
            "shards": [as_tensor(path.read_bytes()) for path in shards],
            "small": sorted(count(opened, [str(folder)]).values()),
            "large": sorted(count(opened, [str(out)]).values()),
        }


def read(answers, shards, world_size, workers, plan, most):
    """Let every worker of every rank go through `samples`, once for each (seed, epoch) of `plan`.

    shards: the bytes of each. most: samples after which a worker is stopped. One item per worker, rank 0's first: its passes, and what it opened.
    """
    with laid_out(shards) as (watch, folder, paths):
        return [
            read_as_worker(answers, watch, folder, paths, rank, world_size, worker, workers, plan, most)
            for rank in range(world_size)
            for worker in range(workers)
        ]


def read_one(answers, shards, rank, world_size, worker, workers, plan, most):
    """The same for one worker."""
    with laid_out(shards) as (watch, folder, paths):
        return read_as_worker(answers, watch, folder, paths, rank, world_size, worker, workers, plan, most)


@contextmanager
def laid_out(shards):
    """The shards as files: a watch on their folder, the folder, their paths."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        (folder / MARK).touch()
        paths = []
        for number, shard in enumerate(shards):
            paths.append(str(folder / f"shard-{number:05d}.tar"))
            Path(paths[-1]).write_bytes(shard.numpy().tobytes())
        with Watch([folder]) as watch:
            yield watch, folder, paths


def read_as_worker(answers, watch, folder, paths, rank, world_size, worker, workers, plan, most):
    def work():
        mine = list(paths)
        passes = []
        for seed, epoch in plan:
            names, prints, odd = [], [], ""
            for item in answers.samples(mine, rank, world_size, worker, workers, epoch, seed):
                if not prints and not passes:
                    open(folder / MARK, "rb").close()
                if type(item) is not tuple or [type(part) for part in item] != [str, bytes]:
                    odd = odd or describe(item)
                    item = ("", b"")
                names.append(item[0].replace("\n", "?"))
                prints.append(fingerprint(item[1]))
                if len(prints) == most:
                    break
            passes.append([names, prints, odd])
        return passes

    passes, opened, habits = apart(work, watch)
    before = opened[: opened.index(str(folder / MARK))] if str(folder / MARK) in opened else []
    opened = [path for path in opened if path != str(folder / MARK)]
    return {
        "passes": [
            {"names": "\n".join(names), "prints": torch.tensor(prints, dtype=torch.int64), "odd": odd}
            for names, prints, odd in passes
        ],
        "opened": [opened.count(path) for path in paths],
        "before_first": len(set(before)),
        **habits,
    }


def as_tensor(data):
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


def fingerprint(data):
    """A number that stands for these bytes."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=6).digest(), "big")


def describe(item):
    if type(item) in (tuple, list):
        return f"a {type(item).__name__} of {[type(part).__name__ for part in item][:5]}"
    return f"a value of type {type(item).__name__}"


def count(opened, folders):
    """Path → how often, of those below one of `folders`."""
    found = {}
    for path in opened:
        if any(path.startswith(folder + os.sep) for folder in folders):
            found[path] = found.get(path, 0) + 1
    return found


def apart(work, watch):
    """`work()` in a process of its own: what it returned, the watched files it opened, in order, and its habits.

    The kernel says what was opened, by whatever means; where it offers no inotify (macOS), Python's audit events do.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            watch.close()  # so that nothing in here can take events away
            os.close(reading)
            text = json.dumps(as_fresh_process(work, watch.folders))
        except BaseException as error:
            text = json.dumps({"raised": f"{type(error).__name__}: {error}"})
        try:
            with open(writing, "w") as pipe:
                pipe.write(text)
        finally:
            os._exit(0)
    os.close(writing)
    text = b""
    while True:
        ready, _, _ = select.select([reading], [], [], 0.01)
        watch.take()  # often enough that the kernel's queue of 16,384 events does not run over
        if reading in ready:
            part = os.read(reading, 1 << 20)
            if not part:
                break
            text += part
    os.close(reading)
    watch.children.append(child)
    opened = watch.heard()
    said = json.loads(text or '{"raised": "the process ended before it was done"}')
    if "raised" in said:
        work()  # raises here as well, where the line is found
        raise RuntimeError(said["raised"])
    return said["value"], opened if watch.works else said["heard"], said["habits"]


def as_fresh_process(work, folders):
    """`work()` as if this process had been started by itself; with what Python says it opened."""
    heard, habits = [], {"written": 0, "salted": False}
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

    inside = tuple(str(folder) + os.sep for folder in folders)

    def hear(event, args):
        if event == "open" and isinstance(args[0], str):
            path, mode, flags = args
            if path.startswith(inside):
                heard.append(path)
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


class Watch:
    """What is opened in `folders`, as the kernel reports it to this process.

    The kernel merges equal events that follow each other, so reading and closing is reported as well.
    """

    def __init__(self, folders):
        self.folders, self.children, self.works = [str(folder) for folder in folders], [], False
        self._opened, self._numbers, self._fd = [], {}, -1
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            self._fd = libc.inotify_init1(NONBLOCK | CLOEXEC)
            for folder in self.folders:
                number = libc.inotify_add_watch(self._fd, os.fsencode(folder), OPENED | ACCESS | CLOSED)
                if number < 0:
                    raise OSError
                self._numbers[number] = folder
            self.works = True
        except (OSError, AttributeError):
            self.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
        for child in self.children:
            os.waitpid(child, 0)

    def heard(self):
        """Paths of what was opened since the last call, in order."""
        self.take()
        opened, self._opened = self._opened, []
        return opened

    def take(self):
        while self.works:
            try:
                data = os.read(self._fd, 1 << 20)
            except BlockingIOError:
                return
            start = 0
            while start < len(data):
                number, mask, _, length = struct.unpack_from("iIII", data, start)
                name = data[start + 16 : start + 16 + length].rstrip(b"\0")
                start += 16 + length
                if mask & OVERFLOW:
                    raise RuntimeError("more files were opened than the kernel could report")
                if mask & OPENED and not mask & FOLDER:
                    self._opened.append(os.path.join(self._numbers[number], os.fsdecode(name)))

    def close(self):
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
