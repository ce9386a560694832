"""Judge of "Sharded data".

Shards that `pack` made come here as bytes and are opened here, and the shards that `samples` reads are made here: the
two are judged apart, on contents that nobody can know before. How often files were opened is what the kernel told the
grader, outside of the learner's process, which has what they hold only by opening them. Which shards a worker needs is
tried as well: it gets noise in place of those that it should not open, and has to give the same samples.
"""

import copy
import io
import math
import tarfile
from collections import Counter
from pathlib import Path, PurePosixPath

import torch

from autograder import expect
from autograder.judge import check, load_module

fingerprint = load_module(Path(__file__).with_name("drive.py"), "drive_of_sharded_data").fingerprint

WORLDS = (3, 1, 2, 4, 8)  # three first: there most mistakes show, each in its own way
KINDS = ("barley", "flax", "hops", "oats", "rye", "spelt", "wheat")
MOST_OPENS = 10  # of one shard by one process: tarfile tries a few formats, some make an index first
MOST_BEFORE_FIRST = 4

HEARD = {str: int}
PACKED = {"said": (str, [str]), "heard": HEARD}
PASSES = [{"names": str, "prints": torch.Tensor, "odd": str}]
READ = [{"passes": PASSES, "heard": HEARD, "written": int, "salted": bool}]


# --- pack -------------------------------------------------------------------------------------------------------


@check("every file is in one shard, with its name and its bytes")
def packed(learner, draw):
    per = draw.integer(150, 250)
    many = 2000 - 2000 % per + per + draw.integer(30, per - 30)
    for files, per_shard in ((many, per), (draw.integer(5, 7), per), (4 * draw.integer(3, 6), 4)):
        Folder(draw, files).pack(learner, per_shard)


@check("each small file is opened once, and each shard is written in one go", about="communication")
def pack_cost(learner, draw):
    per_shard = draw.integer(40, 50)
    folder = Folder(draw, 6 * per_shard + draw.integer(5, per_shard - 5))
    try:
        got = folder.pack(learner, per_shard)
    except expect.Finding as finding:
        if finding.diagnosis in ("not-done", "missing", "raised", "timeout", "died"):
            raise
        raise expect.Finding("result-first", "the shards are not right yet") from None
    small = [got.get(f"data/{name}", 0) for name in folder.files]
    large = [times for path, times in got.items() if path.startswith("shards/")]
    expect.at_most(max(small), 1, "one small file was opened", "opened-twice", unit="times")
    expect.at_least(sum(small), len(small), "small files opened", "answered-in-its-place", unit="files")
    expect.at_most(max(large, default=0), MOST_OPENS, "one shard was opened", "shard-reopened", unit="times")


class Folder:
    """Small files in a few folders, drawn: also one in the folder itself, also an empty one."""

    def __init__(self, draw, count):
        self.draw = draw
        kinds = draw.shuffled(KINDS)[:3]
        places = [f"{kinds[0]}/", f"{kinds[1]}/", f"{kinds[1]}/{kinds[2]}/", ""]
        sizes = [draw.integer(12, 900) for _ in range(count)]
        sizes[draw.integer(0, count - 1)] = 0
        # The same number is in several places, as it is when every class counts its own files.
        self.names = [f"{places[i % 4]}{i // 4:05d}.bin" for i in range(count)]
        data, start = draw.tensor(sum(sizes), dtype=torch.uint8, low=0, high=256).numpy().tobytes(), 0
        self.files = {}
        for name, size in zip(self.names, sizes, strict=True):
            self.files[name] = data[start : start + size]
            start += size

    def pack(self, learner, per_shard):
        """Have it packed, and compare; how often each file was opened."""
        self.draw.case(f"{len(self.files):,} files, {per_shard} samples in a shard")
        files = {f"data/{name}": data for name, data in self.files.items()} | {"shards/": b""}
        got, kept = learner.drive_in_folder("pack_folder", files, per_shard, returns=PACKED)
        expect.that(
            type(got["said"]) is list,
            "wrong-type",
            f"pack should return a list of paths; what came is of type {str(got['said'])[:30]}",
        )
        made = {path: data for path, data in kept.files.items() if path.startswith("shards/")}
        inside = {path: members(made[path], number) for number, path in enumerate(sorted(made))}
        expect.that(
            sorted(got["said"]) == sorted(inside), "list-wrong",
            f"{len(got['said'])} paths in the list, {len(inside)} files in the folder",
        )  # fmt: skip
        self.compare([inside[path] for path in got["said"]], per_shard)
        return got["heard"] if kept.opened is None else kept.opened

    def compare(self, shards, per_shard):
        names = [name for shard in shards for name, _ in shard]
        contents = Counter(data for shard in shards for _, data in shard)
        right = Counter(self.files.values())
        lost = [name for name, data in self.files.items() if not contents[data]]
        rest = len(self.files) % per_shard
        if lost:
            text = f"{len(lost)} of {len(self.files):,} files are in no shard"
            for name, those in {
                "empty-lost": all(not self.files[name] for name in lost),
                "pack-tail-lost": len(lost) == rest,
                "subfolders-missed": by_depth(self.files, lost),
            }.items():
                expect.that(not those, name, text)
            raise expect.Finding("files-lost", text)
        expect.that(
            all(contents[data] <= right[data] for data in contents),
            "packed-twice",
            "a file is in the shards twice, or is none of the folder's",
        )
        if set(names) != set(self.files):
            often = Counter(names).most_common(1)[0][
                0
            ]  # where no name is a strange one, some are there twice
            odd = next((name for name in names if name not in self.files), often)
            twice = f", and it is there {names.count(odd)} times" * (names.count(odd) > 1)
            bases = {PurePosixPath(name).name for name in self.files}
            inside = any(odd.endswith("/" + name) for name in self.files)
            name = (
                "folder-lost"
                if odd in bases or "/" not in odd
                else "absolute-names"
                if inside
                else "pack-name-lost"
            )
            raise expect.Finding(name, f"one name in a shard is {odd[-60:]!r}{twice}")
        mixed = [name for shard in shards for name, data in shard if self.files[name] != data]
        expect.that(not mixed, "contents-changed", f"{len(mixed)} samples have the bytes of another file")
        sizes = [len(shard) for shard in shards]
        if len(sizes) == 1 and len(self.files) > per_shard:
            raise expect.Finding("one-shard", f"one shard holds all {len(self.files):,} samples")
        expect.that(0 not in sizes, "empty-shard", f"the shards hold {sizes[-3:]} samples at the end")
        expect.that(
            all(size == per_shard for size in sizes[:-1]) and sizes[-1] <= per_shard,
            "uneven-shards",
            f"the shards hold {sizes[:8]} samples",
        )


def by_depth(names, lost):
    """Whether it is the depth of their folders that decided which files were lost."""
    depths = {name.count("/") for name in lost}
    return depths != {name.count("/") for name in names} and len(lost) == sum(
        name.count("/") in depths for name in names
    )


def members(data, number):
    """(name, bytes) of the files in a tar archive that came from the learner."""
    found = []
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                if (
                    member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
                    and not member.sparse
                    and member.size <= len(data)
                ):
                    found.append((member.name, tar.extractfile(member).read()))
    except (tarfile.TarError, OSError, ValueError, OverflowError, UnicodeError):
        raise expect.Finding("not-a-tar", f"shard {number}, {expect.amount(len(data))}") from None
    return found


# --- samples ----------------------------------------------------------------------------------------------------


def drawn_bytes(draw):
    return draw.tensor(draw.integer(12, 200), dtype=torch.uint8, low=0, high=256).numpy().tobytes()


def add(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def as_files(archives):
    return {f"shard-{number:05d}.tar": archive.numpy().tobytes() for number, archive in enumerate(archives)}


class Shards:
    """Shards of uneven sizes: `stored[s]` is the list of (name, fingerprint) in shard s, in order."""

    def __init__(self, draw, count, least=12, most=18, last=5):
        self.draw = draw
        kinds = draw.shuffled(KINDS)[:3]
        self.archives, self.stored, self.place = [], [], {}
        number = draw.integer(0, 5000)
        for shard in range(count):
            ends_short = shard == count - 1 > 0
            # No multiple of 2 or 3: shared by two to four processes, a shard leaves a remainder.
            sizes = range(last, least) if ends_short else range(least, most + 1)
            size = draw.choice([size for size in sizes if size % 2 and size % 3])
            archive, stored = io.BytesIO(), []
            with tarfile.open(fileobj=archive, mode="w") as tar:
                for place in range(size):
                    name, data = f"{draw.choice(kinds)}/{number:06d}.bin", drawn_bytes(draw)
                    add(tar, name, data)
                    stored.append((name, fingerprint(data)))
                    self.place[stored[-1][1]] = (shard, place)
                    number += 1
            self.archives.append(torch.frombuffer(bytearray(archive.getvalue()), dtype=torch.uint8))
            self.stored.append(stored)
        self.names = {print_: name for stored in self.stored for name, print_ in stored}

    def with_other_bytes(self):
        """Shards with the same names in the same places, and other contents: what was kept of these is of no use."""
        other = copy.copy(self)
        other.archives, other.stored, other.place = [], [], {}
        for shard, stored in enumerate(self.stored):
            archive, names = io.BytesIO(), []
            with tarfile.open(fileobj=archive, mode="w") as tar:
                for place, (name, _) in enumerate(stored):
                    data = drawn_bytes(self.draw)
                    add(tar, name, data)
                    names.append((name, fingerprint(data)))
                    other.place[names[-1][1]] = (shard, place)
            other.archives.append(torch.frombuffer(bytearray(archive.getvalue()), dtype=torch.uint8))
            other.stored.append(names)
        other.names = {print_: name for names in other.stored for name, print_ in names}
        return other

    def read_without(self, learner, known, worker, plan, most):
        """What the worker (rank, world, worker, workers) gives when it gets noise in place of all shards but `known`.

        Also how often it opened each shard. (None, None): it gave nothing.
        """
        archives = [
            archive if shard in known else self.draw.tensor(len(archive), dtype=torch.uint8, low=0, high=256)
            for shard, archive in enumerate(self.archives)
        ]
        try:
            got, kept = learner.drive_in_folder(
                "read_one", as_files(archives), *worker, plan, most, returns=READ[0]
            )
        except expect.Finding:
            return None, None
        ids = got["passes"][0]["prints"].tolist() if got["passes"] else []
        opened = got["heard"] if kept.opened is None else kept.opened
        return [self.place.get(i) for i in ids], [opened.get(name, 0) for name in as_files(archives)]

    def read(self, learner, world, workers, plan):
        self.draw.case(
            f"{len(self.archives)} shards, {expect.ranks(world)} with {workers} worker{'s' * (workers > 1)} each"
        )
        self.most = 2 * len(self.names) + 10
        found, _ = learner.drive_in_folder(
            "read", as_files(self.archives), world, workers, plan, self.most, returns=READ
        )
        fits = len(found) == world * workers and all(len(one["passes"]) == len(plan) for one in found)
        expect.that(fits, "answered-in-its-place", "something else than one item for each worker came back")
        for number, one in enumerate(found):
            for one_pass in one["passes"]:
                self.look_at(one_pass, f"rank {number // workers}, worker {number % workers}")
        return found

    def look_at(self, one_pass, who):
        """Whether these are samples at all, and how their names are."""
        expect.that(not one_pass["odd"], "not-a-pair", f"{who}: {one_pass['odd']} came")
        prints = one_pass["prints"]
        expect.that(
            prints.dtype == torch.int64 and prints.dim() == 1,
            "answered-in-its-place",
            "no list of numbers came back",
        )
        one_pass["ids"] = ids = prints.tolist()
        expect.that(
            len(ids) < self.most,
            "endless",
            f"{who}: {len(ids):,} samples came and more would have, and {len(self.names)} are in all shards together",
        )
        unknown = [i for i in ids if i not in self.names]
        expect.that(
            not unknown,
            "contents-changed",
            f"{who}: {len(unknown)} of {len(ids)} samples have bytes that no file in the shards has",
        )
        names = one_pass["names"].split("\n") if ids else []
        wrong = [name for name, i in zip(names, ids, strict=False) if name != self.names[i]]
        if wrong or len(names) != len(ids):
            raise expect.Finding("name-lost", f"{who}: one name is {(wrong or [''])[0][-60:]!r}")

    def shards_of(self, ids):
        """Numbers of the shards that these samples are in, in the order in which they came first."""
        return list(dict.fromkeys(self.place[i][0] for i in ids))


@check("every sample comes once per epoch, over all ranks and workers")
def once(learner, draw):
    workers = [draw.choice([2, 3]), *draw.shuffled([1, 2, 3]), draw.choice([1, 2])]
    for world, each in zip(WORLDS, workers, strict=True):
        processes = world * each
        few, many = processes + 2, processes + 4 + processes // 2
        if (
            world == WORLDS[0]
        ):  # two shards for each and some left over, so that one each is seen to be too few
            few, many = 2 * processes + 2, 3 * processes - 1
        shards = Shards(draw, draw.uneven(few, many, processes))
        every_sample_once(learner, draw, shards, world, each)


@check("fewer shards than workers: every sample once, and nobody without samples")
def few_shards(learner, draw):
    for world, workers, count in (
        (3, 2, 4),
        (2, draw.choice([1, 2]), 1),
        (4, draw.choice([2, 3]), 3),
        (8, 1, draw.choice([3, 5])),
    ):
        shards = Shards(draw, count, last=7)
        try:
            every_sample_once(learner, draw, shards, world, workers)
        except expect.Finding as finding:
            if finding.diagnosis != "raised":
                raise
            case = draw.current_case
            Shards(draw, 5).read(
                learner, 2, 1, [[1, 0]]
            )  # raises the same, if it is not the number of shards
            draw.case(case)
            raise expect.Finding("fewer-shards", finding.message) from None


def every_sample_once(learner, draw, shards, world, workers):
    plan = [[draw.seed() % 10_000, draw.integer(0, 9)]]
    found = shards.read(learner, world, workers, plan)
    parts = [one["passes"][0]["ids"] for one in found]
    came = Counter(i for part in parts for i in part)
    missing = [i for i in shards.names if not came[i]]
    twice = [i for i, times in came.items() if times > 1]
    text = f"{sum(came.values())} samples came; {len(twice)} of {len(shards.names)} came more than once, {len(missing)} never"
    if twice:
        raise expect.Finding(why_twice(learner, shards, world, workers, plan, found, missing), text)
    few = len(shards.stored) < world * workers
    if missing:
        whole = all(len({came[i] for _, i in stored}) == 1 for stored in shards.stored)
        lost = sum(not came[stored[0][1]] for stored in shards.stored)
        left_over = lost == len(shards.stored) % len(parts) and not few
        name = "tail-lost" if whole and left_over else "shards-lost" if whole else "end-of-shard-lost"
        name = "fewer-shards" if few and not came else name
        raise expect.Finding(name, text)
    sizes, taken = [len(part) for part in parts], [shards.shards_of(part) for part in parts]
    if few:
        idle = [number for number, part in enumerate(parts) if not part]
        if idle:
            who = f"rank {idle[0] // workers}, worker {idle[0] % workers}"
            raise expect.Finding("idle", f"{len(idle)} of {len(parts)} get no sample, the first is {who}")
        sharing = [sum(shard in mine for mine in taken) for shard in range(len(shards.stored))]
        apart = all(len(mine) == 1 for mine in taken)
        expect.that(
            not apart or max(sharing) - min(sharing) <= 1,
            "unbalanced",
            f"so many processes share each shard: {sharing}",
        )
        bound = math.ceil(max(map(len, shards.stored)) / (len(parts) // len(shards.stored))) + 1
        expect.that(max(sizes) <= bound, "unbalanced", f"the processes get {sizes} samples")
    else:
        each = math.ceil(len(shards.stored) / len(parts))
        whole_shards = sum(map(len, taken)) == len(shards.stored)
        most = max(map(len, taken)) if whole_shards else math.ceil(max(sizes) / max(map(len, shards.stored)))
        expect.that(
            most <= each,
            "last-takes-the-rest",
            f"the processes get {sizes} samples, of {len(shards.stored)} shards",
        )


def why_twice(learner, shards, world, workers, plan, found, missing):
    """The name of the mistake that makes samples come more than once."""
    parts = [frozenset(one["passes"][0]["ids"]) for one in found]
    ranks = [parts[r * workers : (r + 1) * workers] for r in range(world)]
    if not missing and len(parts) > 1 and len(set(parts)) == 1:
        return "not-shared" if len(shards.stored) > 1 else "shard-read-by-several"
    if workers > 1 and all(len(set(mine)) == 1 for mine in ranks):
        return "worker-duplicates"
    if world > 1 and workers > 1 and all(mine == ranks[0] for mine in ranks):
        return "rank-ignored"
    others = [[plan[0][0] + k, plan[0][1] + k] for k in (1, 2, 3, 4)]
    again = shards.read(learner, world, workers, plan + others)
    if [one["passes"][0]["ids"] for one in again] != [one["passes"][0]["ids"] for one in found]:
        return "hash-salted" if any(one["salted"] for one in found) else "unseeded"
    if missing:
        # Wrong numbers take the same places of the row in every order; rows that differ overlap by chance.
        alike = []
        for k in range(5):
            mine = [frozenset(one["passes"][k]["ids"]) for one in again]
            if len(shards.stored) < len(parts):
                alike.append([mine.index(one) for one in mine])
            else:
                read = [set(shards.shards_of(one)) for one in mine]
                alike.append([len(a & b) for a in read for b in read])
        same = all(one == alike[0] for one in alike)
        if len(shards.stored) < len(parts):
            same = same and len(set(alike[0])) < len(parts)
        return "numbers-collide" if same else "shuffled-per-rank"
    if len(shards.stored) < len(parts):
        return "shard-read-by-several"
    return "parts-overlap"


@check("the order depends on epoch and seed, and on nothing else")
def order(learner, draw):
    world, workers = 2, 2
    shards = Shards(draw, draw.uneven(9, 13, world * workers))
    seed, epoch = draw.seed() % 10_000, draw.integer(0, 20)
    epochs = [epoch + k for k in range(4)]
    plan = [*([seed, e] for e in epochs), [seed, epoch], [seed + 5_000 + draw.integer(0, 999), epoch]]
    first = shards.read(learner, world, workers, plan)
    again = shards.read(learner, world, workers, plan)
    later = shards.read(learner, world, workers, [[seed, epochs[2]]])
    runs = [[[p["ids"] for p in one["passes"]] for one in found] for found in (first, again, later)]
    expect.that(any(p for mine in runs[0] for p in mine), "result-first", "no sample came")
    if runs[0] != runs[1]:
        raise expect.Finding(
            "hash-salted" if any(one["salted"] for one in first) else "unseeded",
            "the same seed and epoch, another process, another order",
        )
    if any(mine[0] != mine[4] for mine in runs[0]) or any(
        mine[2] != once[0] for mine, once in zip(runs[0], runs[2], strict=True)
    ):
        raise expect.Finding(
            "depends-on-history", "the same seed and epoch, after other epochs, another order"
        )
    by_pass = [[mine[k] for mine in runs[0]] for k in range(6)]
    expect.that(
        all(by_pass[k] != by_pass[k + 1] for k in range(3)),
        "same-order-every-epoch",
        f"epochs {epochs[0]} and {epochs[1]}, one order",
    )
    expect.that(by_pass[0] != by_pass[5], "seed-ignored", "two seeds, one order")
    orders = [inside_shards(shards, parts) for parts in by_pass[:4]]
    expect.that(
        any(one != orders[0] for one in orders),
        "neighbours-stay",
        "in four epochs the samples of each shard came in the same order",
    )
    dealt = [[sorted(shards.shards_of(part)) for part in parts] for parts in by_pass[:4]]
    cut_by_shard = any(len(mine) < len(shards.stored) for one in dealt for mine in one)
    expect.that(
        not cut_by_shard or any(one != dealt[0] for one in dealt),
        "dealt-alike",
        "in four epochs every worker had the same shards",
    )


def inside_shards(shards, parts):
    """Shard → the places of its samples, in the order in which they came."""
    found = {}
    for part in parts:
        for i in part:
            shard, place = shards.place[i]
            found.setdefault(shard, []).append(place)
    return found


@check("a worker opens the shards it reads, a few times at most, and no others", about="communication")
def opens(learner, draw):
    world, workers = draw.choice([(4, 2), (3, 2), (2, 3)])
    for count in (draw.uneven(2 * world * workers, 3 * world * workers, world * workers), draw.integer(3, 4)):
        shards = Shards(draw, count, least=24, most=32, last=20)
        found, plan = right_first(learner, draw, shards, world, workers)
        other, pairs = shards.with_other_bytes(), 0
        for number, one in enumerate(found):
            worker = (number // workers, world, number % workers, workers)
            who = f"rank {worker[0]}, worker {worker[2]}"
            expect.that(
                not one["written"], "unpacked-again", f"{who}: {one['written']} files were opened for writing"
            )
            ids = one["passes"][0]["ids"]
            read = set(shards.shards_of(ids))
            got, times = other.read_without(learner, read, worker, plan, other.most)
            expect.that(
                got is not None and Counter(got) == Counter(shards.place[i] for i in ids),
                "reads-every-shard",
                f"{who} gives other samples when shards of which it gives none hold noise",
            )
            opened = {shard for shard, often in enumerate(times) if often}
            expect.at_most(
                max(times), MOST_OPENS, f"{who}: one shard was opened", "reopened-per-sample", unit="times"
            )
            expect.that(
                opened <= read,
                "reads-every-shard",
                f"{who}: opens {len(opened)} shards and gives samples of {len(read)}",
            )
            expect.that(
                read <= opened, "answered-in-its-place", f"{who}: samples came of a shard that was not opened"
            )
            pairs += len(opened)
        bound = max(count, world * workers)
        expect.at_most(
            pairs,
            bound,
            f"shards opened by {world * workers} processes together, out of {count}",
            "reads-every-shard",
            unit="shards",
        )


@check("the first sample comes before many shards are open", about="memory")
def lazy(learner, draw):
    shards = Shards(draw, draw.integer(9, 12))
    found, plan = right_first(learner, draw, shards, 1, 1)
    other, alone, taken = (
        shards.with_other_bytes(),
        (0, 1, 0, 1),
        shards.shards_of(found[0]["passes"][0]["ids"]),
    )
    again, _ = other.read_without(learner, taken, alone, plan, other.most)
    same = list(dict.fromkeys(place and place[0] for place in again or [])) == taken
    expect.that(same, "result-first", "the same seed and epoch, another order of the shards")
    first, times = other.read_without(learner, taken[:MOST_BEFORE_FIRST], alone, plan, 1)
    expect.that(
        first is not None
        and len(first) == 1
        and first[0] is not None
        and first[0][0] in taken[:MOST_BEFORE_FIRST],
        "reads-all-first",
        f"no sample of the first shards comes when all but the first {MOST_BEFORE_FIRST} hold noise",
    )
    before = sum(1 for often in times if often)
    expect.at_most(
        before, MOST_BEFORE_FIRST, "opened before the first sample came", "reads-all-first", unit="shards"
    )


def right_first(learner, draw, shards, world, workers):
    """What each worker gave and opened, and the plan that it had."""
    plan = [[draw.seed() % 10_000, draw.integer(0, 9)]]
    found = shards.read(learner, world, workers, plan)
    came = Counter(i for one in found for i in one["passes"][0]["ids"])
    expect.that(came == Counter(list(shards.names)), "result-first", "not every sample came once")
    return found, plan
