"""Judge of "The whole loop"."""

import math
from collections import Counter
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DistributedSampler

from autograder import expect
from autograder.judge import check, load_module

drive = load_module(Path(__file__).with_name("drive.py"), "drive_of_the_whole_loop")

WORLDS = (3, 1, 2, 4, 8)  # three first: there most mistakes show, each in its own way
IGNORE = drive.IGNORE
LENGTH = 5  # tokens in a row
EPOCHS = 2
NUMBERS_OF_EVALUATE = ("tokens", "loss", "accuracy")
OTHERS_FAULT = ("not-done", "missing", "result-first")
# What the functions of drive.py return: has_form says more.
NUMBERS = [torch.Tensor]
ORDERS = [[{"len": int, "epochs": [None]}]]
TRAINED = {"losses": [None], "last": torch.Tensor}
MEASURED = {"said": None, "mode": bool, "kept": bool}
NORMALISED = [
    {
        "results": NUMBERS,
        "means": NUMBERS,
        "variances": NUMBERS,
        "later": NUMBERS,
        "kept": bool,
        "batches": int,
    }
]
PULLED = {"y": torch.Tensor} | dict.fromkeys(("input", "weight", "bias"), (torch.Tensor, type(None)))
LOOPED = {"losses": [None], "said": [None], "reads": [None], "last": torch.Tensor, "buffers": torch.Tensor}


# --- order ------------------------------------------------------------------------------------------------------


@check("every sample is read: as often as DistributedSampler says in training, once in evaluation")
def order(learner, draw):
    cases = []
    for world in draw.shuffled(WORLDS):
        cases.append((draw.uneven(17, 39, world), world, draw.seed() % 10_000, True))
    # Two samples on eight ranks cannot be filled up by repeating a part of the samples once.
    cases += [(draw.integer(11, 19) * 4, 4, draw.seed() % 10_000, True), (3, 8, 5, True), (2, 8, 6, True)]
    first = cases[0]
    cases.append((first[0], first[1], first[2] + 12_345, True))
    cases += [(size, world, seed, False) for size, world, seed, _ in cases[:-1]]
    found = learner.drive("orders", cases, returns=ORDERS)
    for (size, world, _, training), ranks in zip(cases, found, strict=True):
        for_what = "training" if training else "evaluation"
        draw.case(f"{size} samples, {expect.ranks(world)}, for {for_what}")
        well_formed(ranks, size)
        if training:
            look_at_training(ranks, size, world, found, cases)
        else:
            look_at_evaluation([rank["epochs"][0] for rank in ranks], size)
    draw.case(f"{first[0]} samples, {expect.ranks(first[1])}, two seeds")
    both = [[rank["epochs"][0] for rank in found[number]] for number in (0, len(WORLDS) + 3)]
    expect.that(both[0] != both[1], "same-order-every-seed", "two seeds, one order")


def well_formed(ranks, size):
    for rank, said in enumerate(ranks):
        for numbers in said["epochs"]:
            whole = all(type(i) is int for i in numbers)
            expect.that(whole, "wrong-type", f"rank {rank} gets something that is no Python integer")
            outside = [i for i in numbers if not 0 <= i < size]
            expect.that(not outside, "no-such-sample", f"rank {rank} gets {outside[:3]}")
            expect.that(
                said["len"] == len(numbers),
                "wrong-len",
                f"rank {rank}: len() is {said['len']}, and {len(numbers)} came",
            )


def look_at_training(ranks, size, world, found, cases):
    first = [rank["epochs"][0] for rank in ranks]
    lengths = [len(numbers) for numbers in first]
    library = [len(DistributedSampler(range(size), world, r)) for r in range(world)]
    if max(lengths) > library[0]:
        name = "not-shared" if min(lengths) == size and world > 1 else "too-many"
        raise expect.Finding(name, f"the ranks get {lengths} samples")
    if min(lengths) < library[0]:
        name = "tail-lost" if len(set(lengths)) == 1 else "unequal-parts"
        name = "fewer-samples-than-ranks" if size < world else name
        raise expect.Finding(name, f"the ranks get {lengths} samples")
    again = [[rank["epochs"][k] for rank in ranks] for k in range(5)]
    expect.that(
        again[0] == again[1] == again[4],
        "not-repeatable",
        "iterated again for the same epoch, it has another order",
    )
    count = Counter(i for numbers in first for i in numbers)
    missing, most = [i for i in range(size) if not count[i]], max(count.values())
    least = min(count[i] for i in range(size))
    if missing:
        text = f"sample {missing[0]} is on no rank, sample {count.most_common(1)[0][0]} is there {most} times"
        if size < world:
            raise expect.Finding("fewer-samples-than-ranks", text)
        # The cut is the same in evaluation: where that is right, it is the shuffle that differs.
        mine = cases.index((size, world, cases[found.index(ranks)][2], True))
        parts = found[cases.index((*cases[mine][:3], False))] if (*cases[mine][:3], False) in cases else None
        apart = parts and len({i for rank in parts for i in rank["epochs"][0]}) == size
        raise expect.Finding("shuffled-per-rank" if apart else "parts-overlap", text)
    if most > least + 1:
        often = count.most_common(1)[0][0]
        name = "fewer-samples-than-ranks" if size < world else "one-repeated"
        raise expect.Finding(name, f"sample {often} is read {most} times, another one {least} times")
    if size < 11:
        return  # so few may come in the same order by chance
    expect.that(
        sorted(again[0]) != sorted(again[2]) and again[2] != again[3],
        "same-order-every-epoch",
        "set_epoch changes nothing",
    )
    plain = [[i % size for i in range(r, world * library[0], world)] for r in range(world)]
    each = -(-size // world)
    blocks = [[i % size for i in range(r * each, (r + 1) * each)] for r in range(world)]
    expect.that(again[0] not in (plain, blocks), "not-shuffled", "the samples come as 0, 1, 2, …")


def look_at_evaluation(parts, size):
    count = Counter(i for numbers in parts for i in numbers)
    lengths = [len(numbers) for numbers in parts]
    missing = [i for i in range(size) if not count[i]]
    twice = [i for i in range(size) if count[i] > 1]
    if twice and not missing:
        raise expect.Finding(
            "padded-in-evaluation",
            f"the ranks get {lengths} samples; sample {twice[0]} is on {count[twice[0]]} ranks",
        )
    if missing:
        name = "parts-overlap" if twice else "evaluation-drops"
        raise expect.Finding(name, f"the ranks get {lengths} samples; sample {missing[0]} is on no rank")
    expect.that(max(lengths) - min(lengths) <= 1, "unbalanced", f"the ranks get {lengths} samples")


# --- data -------------------------------------------------------------------------------------------------------


def draw_tokens(draw, rows, vocabulary, empty=0):
    """(inputs, targets), each [rows, LENGTH]: 1 to LENGTH targets of a row are predicted; in `empty` rows none is."""
    inputs = draw.tensor(rows, LENGTH, dtype=torch.int64, low=0, high=vocabulary)
    targets = draw.tensor(rows, LENGTH, dtype=torch.int64, low=0, high=vocabulary)
    none = draw.shuffled(range(rows))[:empty]
    for row in range(rows):
        targets[row, 0 if row in none else draw.integer(1, LENGTH) :] = IGNORE
    return inputs, targets


def sum_of_losses(model, inputs, targets):
    """The sum over the predicted tokens, in the model's dtype."""
    return F.cross_entropy(
        model(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum"
    )


# --- training ---------------------------------------------------------------------------------------------------


@check("two epochs equal one process: parameters, and the loss of every step")
def training(learner, draw):
    for world in WORLDS:
        case = Case(draw, world)
        try:
            case.judge(learner)
        except expect.Finding as finding:
            if case.empty and finding.diagnosis in ("deadlock", "died", "raised", "timeout"):
                # With a predicted token in every micro-batch all was well, so this is what is behind it.
                raise expect.Finding("empty-micro-batch", finding.message) from None
            raise
    case = Case(
        draw, draw.choice([2, 3]), words="; a rank has its own rows, and others in the place of the rest"
    )
    reads = [
        torch.cat(rows).unique().tolist()
        for rows in zip(*(case.reads(e) for e in range(EPOCHS)), strict=True)
    ]
    try:
        case.judge(
            learner, [others_lost(draw, (case.inputs, case.targets), mine, case.sizes[0]) for mine in reads]
        )
    except expect.Finding as finding:
        # With all rows on every rank all was well.
        raise expect.Finding("reads-others-rows", finding.message) from None


class Step:
    """One optimizer step: the rows of every rank and micro-batch, and how many tokens are predicted in them."""

    def __init__(self, rows, targets, micro_batch):
        self.parts = [list(mine.split(micro_batch)) for mine in rows]  # [rank][micro-batch]
        self.tokens = [[int((targets[p] != IGNORE).sum()) for p in mine] for mine in self.parts]
        self.world, self.count = len(rows), len(self.parts[0])
        self.total = sum(map(sum, self.tokens))
        self.rows = sum(len(p) for mine in self.parts for p in mine)

    def of_rank(self, r):
        return max(1, sum(self.tokens[r]))

    def of_part(self, r, k):
        return max(1, self.tokens[r][k])

    def of_number(self, k):
        """Tokens of micro-batch k on all ranks."""
        return max(1, sum(mine[k] for mine in self.tokens))


# Diagnosis → what the loss of one token would be multiplied with: step, rank, micro-batch, accumulate → weight.
WEIGHTS = {
    "ddp-divides-too": (
        lambda s, r, k, a: 1 / (s.world * s.total), lambda s, r, k, a: 1 / (s.world * s.world * s.of_rank(r)),
    ),
    "not-divided": (
        lambda s, r, k, a: 1 / s.world, lambda s, r, k, a: 1.0, lambda s, r, k, a: s.world / s.total,
        lambda s, r, k, a: 1 / s.of_rank(r),
    ),
    "micro-batches-added": (
        lambda s, r, k, a: 1 / (s.world * s.of_part(r, k)), lambda s, r, k, a: 1 / s.of_number(k),
        lambda s, r, k, a: 1 / s.of_part(r, k),
    ),
    "mean-of-means": (lambda s, r, k, a: 1 / (s.world * s.of_rank(r)),),
    "micro-batch-means": (
        lambda s, r, k, a: 1 / (s.world * s.count * s.of_part(r, k)), lambda s, r, k, a: 1 / (s.count * s.of_number(k)),
        lambda s, r, k, a: len(s.parts[r][k]) / (s.rows * s.of_part(r, k)),
    ),
    "divided-by-accumulate": (lambda s, r, k, a: 1 / (s.world * a * s.of_part(r, k)), lambda s, r, k, a: 1 / (a * s.of_number(k))),
    "divided-twice": (
        lambda s, r, k, a: 1 / (s.count * s.total), lambda s, r, k, a: 1 / (a * s.total),
        lambda s, r, k, a: 1 / (s.world * s.count * s.of_rank(r)), lambda s, r, k, a: 1 / (s.world * a * s.of_rank(r)),
    ),
    "ignored-counted": (
        lambda s, r, k, a: 1 / (s.rows * LENGTH), lambda s, r, k, a: 1 / (s.world * s.count * len(s.parts[r][k]) * LENGTH),
        lambda s, r, k, a: 1 / (s.world * a * len(s.parts[r][k]) * LENGTH),
    ),
}  # fmt: skip


def right_weight(s, r, k, a):
    return 1 / s.total


class Case:
    """A training run: its data and settings; the run of one process in float64, and what mistakes would make of it."""

    def __init__(self, draw, world, sampler=None, norm=torch.nn.Identity, words=""):
        self.world, self.norm = world, norm
        self.micro_batch, self.accumulate, each = draw.choice([(2, 2, 5), (2, 3, 7), (2, 3, 9), (2, 2, 9)])
        self.empty = 0
        if world == 4:  # micro-batches of one row, of which nothing is predicted
            self.micro_batch, self.accumulate, each, self.empty = 1, 3, 4, 3
        self.sizes, self.seed = (draw.integer(5, 8), draw.integer(4, 6)), draw.seed()
        self.size = each * world - (draw.integer(1, world - 1) if world > 1 else 0)
        self.inputs, self.targets = draw_tokens(draw, self.size, self.sizes[0], self.empty)
        if draw.choice([True, False]):
            self.settings = {"kind": "SGD", "lr": draw.choice([0.2, 0.3]), "momentum": 0.9}
        else:
            # Adam divides by the size of the gradient; a large eps lets a wrong factor show.
            self.settings = {"kind": "AdamW", "lr": 0.05, "eps": 0.05, "betas": (0.8, 0.9)}
        self.dtype = torch.float64 if world in (2, 3) else torch.float32
        name = str(self.dtype).removeprefix("torch.")
        self.words = (
            f"{expect.ranks(world)}, {name}, {self.size} rows, {each} for each rank, micro-batches of {self.micro_batch}, "
            f"{self.accumulate} of them in a step, {self.settings['kind']}, {EPOCHS} epochs{words}"
        )
        draw.case(self.words)
        self.orders = sampler
        # As in a run that goes on from a checkpoint: an epoch has its number, whatever was trained before it.
        self.first = draw.integer(1, 5)

    def reads(self, epoch):
        """The rows of every rank in `epoch`."""
        if self.orders is not None:
            return [torch.tensor(mine) for mine in self.orders[epoch]]
        found = []
        for rank in range(self.world):
            sampler = DistributedSampler(range(self.size), self.world, rank, seed=self.seed)
            sampler.set_epoch(self.first + epoch)
            found.append(torch.tensor(list(sampler)))
        return found

    def steps(self, epoch):
        pieces = [mine.split(self.micro_batch * self.accumulate) for mine in self.reads(epoch)]
        return [Step(rows, self.targets, self.micro_batch) for rows in zip(*pieces, strict=True)]

    def judge(self, learner, held=None):
        """held: the data set as each rank has it, when that is not everywhere the whole."""
        held = held or [(self.inputs, self.targets)] * self.world
        run = learner.on_ranks(self.world).drive(
            "train", [h[0] for h in held], [h[1] for h in held], sizes=self.sizes, seed=self.seed, settings=self.settings, epochs=[self.first + e for e in range(EPOCHS)], micro_batch=self.micro_batch, accumulate=self.accumulate, dtype=self.dtype, returns=TRAINED,
        )  # fmt: skip
        want = self.run()
        losses = [out["losses"] for out in run.outputs]
        self.losses_have_form(losses)
        self.compare_parameters([out["last"] for out in run.outputs], want)
        expect.same_on_every_rank([out["last"] for out in run.outputs], "the vector of all parameters")
        self.compare_losses(losses, want)

    def losses_have_form(self, losses):
        for rank, epochs in enumerate(losses):
            for epoch, told in enumerate(epochs):
                right = type(told) is list and all(isinstance(x, float) for x in told)
                expect.that(
                    right,
                    "wrong-type",
                    f"train_epoch should return a list of floats; on rank {rank} it does not",
                )
                steps = len(self.steps(epoch))
                if len(told) != steps:
                    parts = -(-len(self.reads(epoch)[0]) // self.micro_batch)
                    name = "last-step-lost" if len(told) == parts // self.accumulate else "wrong-length"
                    name = "step-every-micro-batch" if len(told) == parts else name
                    raise expect.Finding(name, f"{len(told)} losses of an epoch with {steps} steps")

    def run(self, weight=right_weight, epoch_of=lambda e: e, **mistake):
        """One process in float64, or with a mistake. last: parameters; told: per step, what could be said of its loss."""
        model = drive.Net(self.sizes, self.seed, self.norm).double()
        optimizer, told, measured = drive.make_optimizer(model, self.settings), [], []
        for epoch in range(EPOCHS):
            steps = self.steps(epoch_of(epoch))
            for step in steps:
                partial = step.count < self.accumulate
                if partial and mistake.get("last") == "lost":
                    continue
                if not mistake.get("keep"):
                    optimizer.zero_grad()
                told.append(self.take(model, optimizer, step, weight, mistake))
                if not (partial and mistake.get("last") == "no step"):
                    optimizer.step()
            if self.norm is not torch.nn.Identity:
                measured.append(self.look(model))
        return {"last": drive.vector(model.parameters()), "told": told, "measured": measured, "model": model}

    def look(self, model):
        """What evaluate should say of `model`."""
        model.eval()
        with torch.no_grad():
            logits, wanted = model(self.inputs).flatten(0, 1), self.targets.flatten()
        model.train()
        loss = F.cross_entropy(logits, wanted, ignore_index=IGNORE, reduction="sum")
        return ratio([loss, (logits.argmax(1) == wanted).sum(), (wanted != IGNORE).sum()])

    def take(self, model, optimizer, step, weight, mistake):
        """The backward passes of one step. Its losses: summed, per rank and micro-batch."""
        sums = [[0.0] * step.count for _ in range(step.world)]
        for k in range(step.count):
            # Layers that look at the whole batch see micro-batch k of all ranks at once.
            rows = torch.cat([mine[k] for mine in step.parts])
            logits = model(self.inputs[rows])
            pieces = logits.split([len(mine[k]) for mine in step.parts])
            loss = torch.zeros((), dtype=torch.float64)
            for r, piece in enumerate(pieces):
                targets = self.targets[step.parts[r][k]].flatten()
                one = F.cross_entropy(piece.flatten(0, 1), targets, ignore_index=IGNORE, reduction="sum")
                sums[r][k] = float(one.detach())
                if "only" not in mistake or k == step.count - 1:
                    loss = loss + one * weight(step, r, k, self.accumulate)
            if loss.requires_grad:
                loss.backward()
            if mistake.get("micro") and k < step.count - 1:
                optimizer.step()
                optimizer.zero_grad()
        return step, sums

    def apart(self, rank, weight, synchronised):
        """The parameters of `rank` when only what `synchronised(step, micro-batch)` names is averaged over the ranks."""
        models = [drive.Net(self.sizes, self.seed).double() for _ in range(self.world)]
        optimizers = [drive.make_optimizer(m, self.settings) for m in models]
        for epoch in range(EPOCHS):
            for step in self.steps(epoch):
                for model in models:
                    model.zero_grad()
                for k in range(step.count):
                    for r, model in enumerate(models):
                        rows = step.parts[r][k]
                        loss = sum_of_losses(model, self.inputs[rows], self.targets[rows])
                        (loss * weight(step, r, k, self.accumulate) * self.world).backward()
                    if synchronised(step, k):
                        for same in zip(*(m.parameters() for m in models), strict=True):
                            mean = torch.stack([p.grad for p in same]).mean(0)
                            for p in same:
                                p.grad.copy_(mean)
                for optimizer in optimizers:
                    optimizer.step()
        return drive.vector(models[rank].parameters())

    def roundings(self):
        return {"terms": 64 * self.world, "slack": 4.0 if self.dtype == torch.float32 else 100.0}

    def compare_parameters(self, got, want):
        what, right = "the vector of all parameters", want["last"].to(self.dtype)
        try:
            expect.close(got, right, what, **self.roundings())
        except expect.Finding as finding:
            if finding.diagnosis == "not-a-number" and self.empty:
                raise expect.Finding("empty-micro-batch", finding.message) from None
            if finding.diagnosis not in ("wrong-values", "not-a-number"):
                raise
            likely = {
                name: tuple(self.ends(**one) for one in ways) for name, ways in self.whole_mistakes().items()
            }
            if self.world > 1:
                likely |= {
                    name: tuple(self.all_apart(*one) for one in ways)
                    for name, ways in self.rank_mistakes().items()
                }
            try:
                expect.close(got, right, what, likely, **self.roundings())
            except expect.Finding as again:
                if again.diagnosis != "wrong-values":
                    raise
                alike = all(torch.equal(mine, got[0]) for mine in got)
                raise expect.Finding("another-run" if alike else "ranks-drift", again.message) from None

    def ends(self, **mistake):
        return self.run(**mistake)["last"].to(self.dtype)

    def all_apart(self, weight, synchronised):
        return [self.apart(rank, weight, synchronised).to(self.dtype) for rank in range(self.world)]

    def whole_mistakes(self):
        """Diagnosis → arguments of `run`, for mistakes that leave all ranks alike."""
        found = {
            "no-set-epoch": ({"epoch_of": lambda e: -self.first},),
            "epoch-set-late": (
                {"epoch_of": lambda e: e or -self.first},
                {"epoch_of": lambda e: e - 1 if e else -self.first},
            ),
            "wrong-epoch": ({"epoch_of": lambda e: e + 1},),
            "last-step-lost": ({"last": "lost"}, {"last": "no step"}, {"last": "no step", "keep": True}),
            "gradients-kept": ({"keep": True},),
        }
        weights = {"right": (right_weight,)} | WEIGHTS
        found["last-micro-batch-only"] = tuple(
            {"weight": w, "only": True} for ws in weights.values() for w in ws
        )
        found["step-every-micro-batch"] = tuple(
            {"weight": w, "micro": True} for name in ("right", "micro-batches-added", "micro-batch-means", "divided-by-accumulate") for w in weights[name]
        )  # fmt: skip
        return {name: tuple({"weight": w} for w in ws) for name, ws in WEIGHTS.items()} | found

    def rank_mistakes(self):
        """Diagnosis → arguments of `all_apart`, for mistakes after which every rank has its own model."""
        own = [right_weight, *WEIGHTS["mean-of-means"], *WEIGHTS["micro-batch-means"], *WEIGHTS["ddp-divides-too"],
               *WEIGHTS["micro-batches-added"], *WEIGHTS["divided-by-accumulate"]]  # fmt: skip
        return {
            "never-synchronised": tuple((w, lambda s, k: False) for w in own),
            "synchronised-too-early": tuple((w, lambda s, k: k == 0) for w in own)
            + tuple((w, lambda s, k: k < s.count - 1) for w in own[:3]),
            "last-step-not-synchronised": tuple((w, lambda s, k: k == self.accumulate - 1) for w in own),
        }

    def compare_losses(self, losses, want):
        what, count = "the losses of all steps", len(want["told"])
        got = [torch.tensor([x for epoch in mine for x in epoch], dtype=self.dtype) for mine in losses]
        right = self.row([sum(map(sum, sums)) / s.total for s, sums in want["told"]])
        try:
            expect.close(got, right, what, **self.roundings())
        except expect.Finding as finding:
            if finding.diagnosis not in ("wrong-values", "not-a-number"):
                raise
            close = all(float((mine - right).abs().max()) < 1e-4 for mine in got)
            if close and count:
                raise expect.Finding("rounded", finding.message) from None
            expect.close(got, right, what, self.wrong_losses(want["told"]), **self.roundings())

    def row(self, values):
        return torch.tensor(values, dtype=self.dtype)

    def wrong_losses(self, told):
        """Diagnosis → what could be taken for the loss of each step, per rank where the ranks differ."""
        ranks = range(self.world)

        def row(function):
            return self.row([function(s, sums) for s, sums in told])

        def rows(function):
            return [row(lambda s, sums, r=r: function(s, sums, r)) for r in ranks]

        def of_rank(s, sums, r):
            return sum(sums[r]) / s.of_rank(r)

        def means(s, sums, r):
            return sum(sums[r][k] / s.of_part(r, k) for k in range(s.count)) / s.count

        def last(s, sums, r):
            return sums[r][-1] / s.of_part(r, s.count - 1)

        def mean(function):
            return row(lambda s, sums: sum(function(s, sums, r) for r in ranks) / self.world)

        return {
            "loss-of-one-rank": (
                rows(of_rank), rows(means), [rows(of_rank)[0]] * self.world, [rows(means)[0]] * self.world,
                rows(lambda s, sums, r: sum(sums[r]) / s.total), rows(lambda s, sums, r: sum(sums[r]) * self.world / s.total),
            ),
            "loss-mean-of-means": (mean(of_rank), mean(means)),
            "loss-of-last-micro-batch": (
                rows(last), mean(last), [rows(last)[0]] * self.world,
                row(lambda s, sums: sum(sums[r][-1] for r in ranks) / s.total),
                row(lambda s, sums: sum(sums[r][-1] for r in ranks) / s.of_number(s.count - 1)),
            ),
            "loss-not-divided": (
                row(lambda s, sums: sum(map(sum, sums))), rows(lambda s, sums, r: sum(sums[r])),
                row(lambda s, sums: sum(map(sum, sums)) * self.world / s.total),
                row(lambda s, sums: sum(of_rank(s, sums, r) for r in ranks)),
                row(lambda s, sums: sum(means(s, sums, r) for r in ranks)),
                rows(lambda s, sums, r: s.count * means(s, sums, r)),
                row(lambda s, sums: s.count * sum(means(s, sums, r) for r in ranks) / self.world),
            ),
            "loss-divided-twice": (
                row(lambda s, sums: sum(map(sum, sums)) / s.total / self.world), row(lambda s, sums: sum(map(sum, sums)) / s.total / s.count),
            ),
            "loss-counts-ignored": (row(lambda s, sums: sum(map(sum, sums)) / (s.rows * LENGTH)),),
        }  # fmt: skip


# --- metrics ----------------------------------------------------------------------------------------------------


@check("loss and accuracy over the whole data set, exact, on every rank", about="numerics")
def metrics(learner, draw):
    cases = [Measurement(draw, world) for world in (3, 1, 4, 8)]
    wanted = [(case.size, case.world, training) for case in cases for training in (False, True)]
    found = learner.drive("parts", wanted, returns=[[[None]]])
    for case, parts, padded in zip(cases, found[::2], found[1::2], strict=True):
        case.judge(learner, draw, parts, padded)


class Measurement:
    """A model, a data set of which each rank holds its part, and what could be said of it."""

    def __init__(self, draw, world):
        self.world, self.micro_batch = world, draw.choice([2, 3])
        self.size = draw.integer(3, 5) if world == 8 else draw.uneven(11, 23, world)
        self.sizes, self.seed = (draw.integer(4, 7), draw.integer(3, 5)), draw.seed()
        self.running = [
            draw.tensor(self.sizes[1], low=-0.5, high=0.5),
            draw.tensor(self.sizes[1], low=0.2, high=0.6),
        ]
        self.training = draw.choice([True, False]) if world != 3 else True
        whole = draw_tokens(draw, self.size, self.sizes[0])
        self.data = [whole]  # what each rank's storage holds: at first, all of it
        self.whole = whole
        mode = "training" if self.training else "evaluation"
        self.words = f"{expect.ranks(world)}, {self.size} rows, micro-batches of {self.micro_batch}, the model comes in {mode} mode"

    def judge(self, learner, draw, own, padded):
        """own, padded: the rows of each rank, as ShardSampler gives them for evaluation and for training."""
        draw.case(self.words)
        self.parts, self.padded = own, padded
        for parts in (self.parts, self.padded):
            usable = all(type(i) is int and 0 <= i < self.size for mine in parts for i in mine)
            expect.that(usable, "result-first", "ShardSampler gives numbers that are none of a sample")
        self.data = [others_lost(draw, self.whole, mine, self.sizes[0]) for mine in self.parts]
        run = learner.on_ranks(self.world).drive(
            "measure", [d[0] for d in self.data], [d[1] for d in self.data], [self.training] * self.world,
            sizes=self.sizes, seed=self.seed, running=self.running, micro_batch=self.micro_batch, returns=MEASURED,
        )  # fmt: skip
        for rank, out in enumerate(run.outputs):
            said = out["said"]
            form = type(said) is dict and all(
                isinstance(said.get(key), float | int) for key in ("loss", "accuracy", "tokens")
            )
            if not form and rank and type(run.outputs[0]["said"]) is dict:
                raise expect.Finding("rank-0-only", f"evaluate returns no numbers on rank {rank}")
            expect.that(
                form,
                "wrong-type",
                f'evaluate should return {{"loss", "accuracy", "tokens"}}; on rank {rank} it does not',
            )
            expect.that(
                out["kept"],
                "measured-in-training-mode",
                f"the running statistics are others than before, on rank {rank}",
            )
        said = [out["said"] for out in run.outputs]
        right, wrong = self.truth(), self.mistakes()
        # What explains all three numbers is looked for first, and then what explains one.
        for likely in (
            {n: tuple(w for w in ways if self.explains(w, said)) for n, ways in wrong.items()},
            wrong,
        ):
            for key in NUMBERS_OF_EVALUATE:
                self.compare(key, said, right, likely, last=likely is wrong)
        for rank, out in enumerate(run.outputs):
            expect.that(
                out["mode"] == self.training, "mode-not-restored",
                f"the model was in {'training' if self.training else 'evaluation'} mode, and is not, on rank {rank}",
            )  # fmt: skip

    def explains(self, way, said, keys=NUMBERS_OF_EVALUATE):
        """The model is float32; a token more or less in a hundred is a hundred times this tolerance."""
        return all(same(float(x[key]), y[key], 1e-4) for x, y in zip(said, way, strict=True) for key in keys)

    def compare(self, key, said, right, likely, last):
        wrong = [r for r, one in enumerate(said) if not same(float(one[key]), right[key], 1e-4)]
        if not wrong:
            return
        text = f'"{key}" on rank {wrong[0]}: {said[wrong[0]][key]:.6g}'
        for name, ways in likely.items():
            if any(self.explains(way, said, [key]) for way in ways):
                raise expect.Finding(name, text)
        if not last:
            return
        if self.size < self.world:
            # With a row on every rank all was well, so this is what is behind it.
            raise expect.Finding("rank-without-rows", text)
        raise expect.Finding(
            "wrong-metrics" if len({round(one[key], 6) for one in said}) == 1 else "metrics-differ", text
        )

    def model(self):
        model = drive.Net(self.sizes, self.seed, torch.nn.BatchNorm1d)
        model.norm.running_mean.copy_(self.running[0])
        model.norm.running_var.copy_(self.running[1])
        return model.double().eval()

    def sums(self, data, rows, model):
        """Summed loss, right tokens, predicted tokens, and right ones among all positions, of some rows."""
        rows = torch.tensor(rows, dtype=torch.int64)
        if not len(rows):
            return torch.zeros(3, dtype=torch.float64)
        with torch.no_grad():
            logits, wanted = model(data[0][rows]).flatten(0, 1), data[1][rows].flatten()
        loss = F.cross_entropy(logits, wanted, ignore_index=IGNORE, reduction="sum")
        return torch.tensor(
            [float(loss), float((logits.argmax(1) == wanted).sum()), float((wanted != IGNORE).sum())]
        ).double()

    def truth(self):
        return ratio(self.sums(self.whole, list(range(self.size)), self.model()))

    def mistakes(self):
        """Diagnosis → ways, each with {"loss", "accuracy", "tokens"} for every rank."""
        model, found = self.model(), {}
        ranks, micro = range(self.world), self.micro_batch

        def of(parts, data=None):
            """Per rank, the sums over its rows."""
            return [self.sums((data or self.data)[r], parts[r], model) for r in ranks]

        def everywhere(one):
            return [one] * self.world

        def average(ones):
            ones = [one for one in ones]
            mean = {key: sum(one[key] for one in ones) / len(ones) for key in ("loss", "accuracy")}
            return mean | {"tokens": sum(one["tokens"] for one in ones)}

        def chunks(rows):
            return [rows[i : i + micro] for i in range(0, len(rows), micro)]

        own = of(self.parts)
        padded = [*self.parts], [*self.padded]
        strided = [
            [i % self.size for i in range(r, -(-self.size // self.world) * self.world, self.world)]
            for r in ranks
        ]
        if self.world > 1:
            found["rank-0-only"] = (
                [ratio(own[0])] + [dict.fromkeys(("loss", "accuracy", "tokens"), 0.0)] * (self.world - 1),
                everywhere(ratio(own[0])),
            )
            found["own-metric"] = ([ratio(one) for one in own],)
            found["padded-duplicates"] = tuple(
                everywhere(ratio(sum(of(parts, data))))
                for parts in (padded[1], strided)
                for data in (None, [self.whole] * self.world)
            )
            found["everybody-reads-all"] = (
                [ratio(self.sums(self.data[r], list(range(self.size)), model)) for r in ranks],
                everywhere(ratio(sum(self.sums(self.data[r], list(range(self.size)), model) for r in ranks))),
            )
            floor = self.size // self.world
            lost = [[mine[:floor] for mine in self.parts], [m[: len(m) // micro * micro] for m in self.parts]]
            lost.append([mine[: floor // micro * micro] for mine in self.parts])
            found["rows-dropped"] = tuple(everywhere(ratio(sum(of(parts)))) for parts in lost)
        pieces = [
            [ratio(self.sums(self.data[r], rows, model)) for rows in chunks(self.parts[r])] for r in ranks
        ]
        full = [[one for one in mine if one["tokens"]] for mine in pieces]
        rank_means = [average(mine) for mine in full if mine]
        everything = [one for mine in full for one in mine]
        ways = [average([ratio(one) for one in own if one[2]]), average(rank_means), average(everything)]
        if any(not one[2] for one in own):  # a mean over nothing: 0 at best
            ways.append(
                average(
                    [ratio(one) if one[2] else {"loss": 0.0, "accuracy": 0.0, "tokens": 0} for one in own]
                )
            )
        found["metric-mean-of-means"] = tuple(everywhere(way) for way in ways)
        total = sum(own)
        positions = float(self.size * LENGTH)
        weighted = {"tokens": float(total[2])}
        for key in ("loss", "accuracy"):
            weighted[key] = (
                sum(len(p) * ratio(one)[key] for p, one in zip(self.parts, own, strict=True) if one[2])
                / self.size
            )
        means = sum(one["loss"] for one in everything)  # of micro-batches
        found["metric-divided-twice"] = (everywhere(ratio(total) | {"loss": means / float(total[2])}),)
        found["weighted-by-rows"] = (everywhere(weighted),)
        found["ignored-tokens-counted"] = (
            everywhere(
                {
                    "loss": float(total[0]) / positions,
                    "accuracy": float(total[1]) / positions,
                    "tokens": positions,
                }
            ),
        )
        found["metric-not-divided"] = (
            everywhere({"loss": float(total[0]), "accuracy": float(total[1]), "tokens": float(total[2])}),
        )
        if self.world > 1:
            share = ratio(total)
            found["metric-not-divided"] += (
                everywhere(
                    {
                        "loss": share["loss"] * self.world,
                        "accuracy": share["accuracy"] * self.world,
                        "tokens": share["tokens"] * self.world,
                    }
                ),
            )
        return found


def ratio(sums):
    """The three numbers, from sums of loss, right tokens, tokens. Of nothing: not a number."""
    loss, right, tokens = (float(x) for x in sums)
    none = float("nan")
    return {
        "loss": loss / tokens if tokens else none,
        "accuracy": right / tokens if tokens else none,
        "tokens": tokens,
    }


def same(x, y, tolerance):
    if not math.isfinite(x) or not math.isfinite(y):
        return not math.isfinite(x) and not math.isfinite(y)
    return abs(x - y) <= tolerance * max(1.0, abs(y))


# --- statistics -------------------------------------------------------------------------------------------------


@check("batch normalisation with the statistics of all ranks, running ones too")
def statistics(learner, draw):
    three = Batches(draw, 3, torch.float64, length=draw.integer(2, 4))
    judge_statistics(learner, draw, [three])
    judge_statistics(learner, draw, [Batches(draw, 1, torch.float32)])
    # What is right so far goes wrong here for one reason only.
    hard = Batches(draw, 2, torch.float32, offset=1000.0), Batches(draw, 2, torch.bfloat16, length=3)
    judge_statistics(learner, draw, hard, ("cancellation", "rounded"))
    for world in (4, 8):
        empty = Batches(draw, world, torch.float32, empty=draw.integer(1, 2) if world == 4 else 4)
        judge_statistics(learner, draw, [empty], ("rank-without-rows",))


class Batches:
    """Two inputs of which every rank has some rows, a layer's settings; and what any mistake makes of them, in float64."""

    def __init__(self, draw, world, dtype, length=None, offset=0.0, empty=0):
        self.world, self.dtype, self.offset = world, dtype, offset
        self.channels = draw.integer(3, 6)
        self.settings = {"eps": draw.choice([0.05, 0.1]), "momentum": draw.choice([0.1, 0.2, 0.3])}
        # The type of weights and running statistics
        self.wide = torch.float64 if dtype == torch.float64 else torch.float32
        c = self.channels
        self.affine = [
            draw.tensor(c, dtype=self.wide, low=0.5, high=1.5), draw.tensor(c, dtype=self.wide),
            draw.tensor(c, dtype=self.wide), draw.tensor(c, dtype=self.wide, low=0.5, high=1.5),
        ]  # fmt: skip
        none = draw.shuffled(range(world))[:empty]
        self.inputs = []
        for _ in range(2):
            rows = draw.shuffled([2 + 3 * r for r in range(world)] if world < 8 else [1, 2, 1, 3, 1, 2, 1, 3])
            rows = [0 if r in none else n for r, n in enumerate(rows)]
            center = draw.tensor(world, c, low=-1.0, high=1.0)  # the ranks' parts differ
            shape = [c] if length is None else [c, length]
            parts = []
            for rank in range(world):
                x = draw.tensor(rows[rank], *shape, dtype=torch.float64, low=-1.5, high=1.5)
                x += center[rank].double().reshape([c] + [1] * (len(shape) - 1)) + offset
                parts.append(x.to(dtype))
            self.inputs.append(parts)
        words = [
            expect.ranks(world),
            str(dtype).removeprefix("torch."),
            f"{[len(x) for x in self.inputs[0]]} rows",
        ]
        words += [f"length {length}"] * (length is not None) + [f"a mean of about {offset:g}"] * bool(offset)
        self.words = ", ".join(words)

    def roundings(self, dtype):
        values = sum(x[:, 0].numel() for x in self.inputs[0])
        if self.offset:
            return {"terms": values, "slack": 600.0}
        return {"terms": values, "slack": 1000.0 if dtype == torch.float64 else 8.0}

    def along(self, channels):
        return channels.reshape([1, -1] + [1] * (self.inputs[0][0].dim() - 2))

    def moments(self, x):
        """How many values a channel has, their mean, their biased variance, in float64."""
        x = x.double().transpose(0, 1).flatten(1)
        count = x.shape[1]
        if not count:
            return 0, torch.zeros(self.channels).double(), torch.zeros(self.channels).double()
        return count, x.mean(1), x.var(1, correction=0)

    def simulate(self, choose=None, finish=None, keep=None):
        """results[step][rank], means[step][rank], variances[step][rank] with other choices where given.

        choose(here, all ranks', everything): (mean, variance, running mean, running variance) of one rank, each of here and
        everything (count, mean, variance). finish(x, mean, variance): the normalised x. keep(old, now): the running ones.
        """
        momentum, eps = self.settings["momentum"], self.settings["eps"]
        weight, bias, *start = (t.double() for t in self.affine)
        keep = keep or (lambda old, now: (1 - momentum) * old + momentum * now)
        finish = finish or (
            lambda x, mean, var: (x - mean) / (var + eps).sqrt() * self.along(weight) + self.along(bias)
        )
        running = [list(start) for _ in range(self.world)]
        results, means, variances = [], [], []
        for parts in self.inputs:
            here = [self.moments(x) for x in parts]
            everything = self.moments(torch.cat([x.double() for x in parts]))
            chosen = [(choose or right_statistics)(one, here, everything) for one in here]
            finished = [
                finish(x.double(), self.along(m), self.along(v))
                for x, (m, v, _, _) in zip(parts, chosen, strict=True)
            ]
            results.append([y.to(self.dtype) for y in finished])
            running = [
                [keep(old[0], rm), keep(old[1], rv)]
                for old, (_, _, rm, rv) in zip(running, chosen, strict=True)
            ]
            means.append([one[0].to(self.wide) for one in running])
            variances.append([one[1].to(self.wide) for one in running])
        return {"results": results, "means": means, "variances": variances}

    def later(self, means, variances):
        """The last input in evaluation mode, with some running statistics."""
        weight, bias = (t.double() for t in self.affine[:2])
        found = []
        for x, mean, variance in zip(self.inputs[-1], means, variances, strict=True):
            scale = weight / (variance.double() + self.settings["eps"]).sqrt()
            found.append(
                ((x.double() - self.along(mean.double())) * self.along(scale) + self.along(bias)).to(
                    self.dtype
                )
            )
        return found

    def in_one_process(self):
        """The same by torch.nn.BatchNorm1d in one process."""
        layer = drive.make_norm(torch.nn.BatchNorm1d, self.settings, self.affine, torch.float64)
        found = {"results": [], "means": [], "variances": []}
        for parts in self.inputs:
            y = layer(torch.cat([x.double() for x in parts])).detach()
            found["results"].append([piece.to(self.dtype) for piece in y.split([len(x) for x in parts])])
            found["means"].append([layer.running_mean.to(self.wide, copy=True)] * self.world)
            found["variances"].append([layer.running_var.to(self.wide, copy=True)] * self.world)
        return found


def unbiased(count, variance):
    return variance * count / max(1, count - 1)


def right_statistics(one, here, everything):
    count, mean, variance = everything
    return mean, variance, mean, unbiased(count, variance)


def with_variance(function, also_mean=None):
    """Statistics with another variance, and perhaps another mean, made of those of the ranks that have rows."""

    def choose(one, here, everything):
        some = [h for h in here if h[0]]
        mean = also_mean(some) if also_mean else everything[1]
        variance = function(some, mean)
        return mean, variance, mean, unbiased(everything[0], variance)

    return choose


def plain(values):
    return sum(values) / len(values)


def weighted(values, here):
    return sum(h[0] * v for h, v in zip(here, values, strict=True)) / sum(h[0] for h in here)


def mean_of_means(some):
    return plain([h[1] for h in some])


OWN = lambda one, here, everything: (one[1], one[2], one[1], unbiased(one[0], one[2]))  # noqa: E731
# Diagnosis → the arguments of `simulate`.
WRONG_STATISTICS = {
    "own-statistics": ({"choose": OWN},),
    "averaged-variances": (
        {"choose": with_variance(lambda some, mean: plain([h[2] for h in some]))},
        {"choose": with_variance(lambda some, mean: weighted([h[2] for h in some], some))},
        {"choose": with_variance(lambda some, mean: plain([unbiased(h[0], h[2]) for h in some]))},
        {"choose": with_variance(lambda some, mean: weighted([unbiased(h[0], h[2]) for h in some], some))},
        {"choose": with_variance(lambda some, mean: plain([h[2] for h in some]), mean_of_means)},
        {"choose": with_variance(lambda some, mean: plain([unbiased(h[0], h[2]) for h in some]), mean_of_means)},
        {"choose": with_variance(lambda some, mean: plain([h[2].sqrt() for h in some]) ** 2)},
    ),
    "statistics-mean-of-means": (
        {"choose": with_variance(lambda some, mean: plain([h[2] + h[1] ** 2 for h in some]) - mean**2, mean_of_means)},
        {"choose": with_variance(lambda some, mean: weighted([h[2] + (h[1] - mean) ** 2 for h in some], some), mean_of_means)},
        {"choose": with_variance(lambda some, mean: plain([h[2] + (h[1] - mean) ** 2 for h in some]))},
    ),
    "unbiased-in-result": ({"choose": lambda o, h, e: (e[1], unbiased(e[0], e[2]), e[1], unbiased(e[0], e[2]))},),
    "running-variance-biased": ({"choose": lambda o, h, e: (e[1], e[2], e[1], e[2])},),
    "running-own": (
        {"choose": lambda o, h, e: (e[1], e[2], o[1], unbiased(o[0], o[2]))}, {"choose": lambda o, h, e: (e[1], e[2], o[1], o[2])},
        {"choose": lambda o, h, e: (e[1], e[2], e[1], unbiased(o[0], o[2]))},
    ),
    "running-variance-count": (
        {"choose": lambda o, h, e: (e[1], e[2], e[1], unbiased(o[0], e[2]))},
        {"choose": lambda o, h, e: (e[1], e[2], e[1], unbiased(len(h), e[2]))},
        {"choose": lambda o, h, e: (e[1], e[2], e[1], unbiased(e[0], unbiased(e[0], e[2])))},
    ),
}  # fmt: skip


def judge_statistics(learner, draw, cases, reasons=()):
    world = cases[0].world
    draw.case("; then ".join(case.words for case in cases))
    # Every rank's cases, and on how many inputs it is evaluated: as in a real evaluation, not the same everywhere.
    per_rank = [
        [([p[r] for p in c.inputs], c.settings, c.affine, c.wide) for c in cases] for r in range(world)
    ]
    times = [2 if r == 0 else r % 2 for r in range(world)]
    crew = learner.on_ranks(world)
    try:
        outputs = crew.drive("statistics", per_rank, times, returns=NORMALISED).outputs
    except expect.Finding as finding:
        if finding.diagnosis not in ("deadlock", "raised", "died"):
            raise
        try:
            crew.drive("statistics", per_rank, [0] * world, returns=NORMALISED)
        except expect.Finding as again:
            if reasons and reasons[0] == "rank-without-rows" and again.diagnosis not in OTHERS_FAULT:
                raise expect.Finding(reasons[0], finding.message) from None
            raise
        raise expect.Finding(
            "evaluation-communicates" if world > 1 else finding.diagnosis, finding.message
        ) from None
    for number, case in enumerate(cases):
        draw.case(case.words)
        try:
            compare_statistics(case, [out[number] for out in outputs])
        except expect.Finding as finding:
            if reasons and finding.diagnosis in (
                "wrong-values",
                "not-a-number",
                "ranks-differ",
                *WRONG_STATISTICS,
            ):
                raise expect.Finding(reasons[number], finding.message) from None
            raise


def compare_statistics(case, outputs):
    right, simulated = case.in_one_process(), {}

    def likely(kind, step):
        if not simulated:
            eps, (weight, bias) = case.settings["eps"], (case.along(t.double()) for t in case.affine[:2])
            m = case.settings["momentum"]
            ways = WRONG_STATISTICS | {
                "eps-outside": ({"finish": lambda x, mean, var: (x - mean) / (var.sqrt() + eps) * weight + bias},),
                "eps-forgotten": ({"finish": lambda x, mean, var: (x - mean) / var.sqrt() * weight + bias},),
                "affine-forgotten": ({"finish": lambda x, mean, var: (x - mean) / (var + eps).sqrt()},),
                "momentum-reversed": ({"keep": lambda old, now: m * old + (1 - m) * now},),
                "running-not-updated": ({"keep": lambda old, now: old},),
            }  # fmt: skip
            for name, several in ways.items():
                simulated[name] = [case.simulate(**way) for way in several]
        return {name: tuple(one[kind][step] for one in several) for name, several in simulated.items()}

    for step in range(2):
        for kind, what in (
            ("results", "the result"), ("means", "running_mean"), ("variances", "running_var"),
        ):  # fmt: skip
            got, want = [out[kind][step] for out in outputs], right[kind][step]
            words = f"{what} after {step + 1} of 2 inputs"
            try:
                expect.close(got, want, words, **case.roundings(want[0].dtype))
            except expect.Finding as finding:
                if finding.diagnosis not in ("wrong-values", "not-a-number"):
                    raise
                if case.dtype == torch.float64 and nearly(got, want):
                    raise expect.Finding("rounded", finding.message) from None
                expect.close(got, want, words, likely(kind, step), **case.roundings(want[0].dtype))
    for rank, out in enumerate(outputs):
        expect.that(
            out["batches"] == 2,
            "batches-not-counted",
            f"num_batches_tracked is {out['batches']} after 2 inputs",
        )
        expect.that(
            out["kept"],
            "evaluation-updates",
            f"in evaluation mode the running statistics changed on rank {rank}",
        )
    for rank, out in enumerate(outputs):
        want = case.later([out["means"][1] for out in outputs], [out["variances"][1] for out in outputs])[
            rank
        ]
        for y in out["later"]:
            try:
                expect.close(
                    y, want, f"the result in evaluation mode on rank {rank}", **case.roundings(case.dtype)
                )
            except expect.Finding as finding:
                if finding.diagnosis == "wrong-values":
                    raise expect.Finding("evaluation-uses-batch", finding.message) from None
                raise


def nearly(got, want):
    pairs = zip(got, want, strict=True)
    return all(
        g.shape == w.shape and torch.allclose(g.double(), w.double(), rtol=1e-4, atol=1e-4) for g, w in pairs
    )


# --- gradients --------------------------------------------------------------------------------------------------


@check("its backward pass, against BatchNorm1d in one process")
def gradients(learner, draw):
    for world, dtype, length, empty in (
        (3, torch.float64, draw.integer(2, 4), 0),
        (4, torch.float32, None, 1),
    ):
        case = Batches(draw, world, dtype, length, empty=empty)
        parts = case.inputs[0]
        pulls = [draw.tensor(*x.shape, dtype=dtype) + 0.3 for x in parts]
        draw.case(case.words)
        try:
            run = learner.on_ranks(world).drive(
                "gradients",
                parts,
                pulls,
                settings=case.settings,
                affine=case.affine,
                dtype=case.wide,
                returns=PULLED,
            )
            compare_gradients(case, parts, pulls, run.outputs)
        except expect.Finding as finding:
            if empty and finding.diagnosis not in OTHERS_FAULT:
                # With rows on every rank all was well, so this is what is behind it, however it shows.
                raise expect.Finding("rank-without-rows", finding.message) from None
            raise


def compare_gradients(case, parts, pulls, outputs):
    layer = drive.make_norm(torch.nn.BatchNorm1d, case.settings, case.affine, torch.float64)
    whole = torch.cat([x.double() for x in parts]).requires_grad_()
    pull = torch.cat([g.double() for g in pulls])
    (layer(whole) * pull).sum().backward()
    sizes = [len(x) for x in parts]
    right = [piece.to(case.dtype) for piece in whole.grad.split(sizes)]
    forward = nearly(
        [out["y"] for out in outputs], [y.to(case.dtype) for y in layer(whole.detach()).split(sizes)]
    )
    expect.that(forward, "result-first", "the result of the forward pass is wrong")

    # The same written out, to leave parts of it away (Ioffe and Szegedy 2015, section 3).
    n, mean, variance = case.moments(whole.detach())
    over = [d for d in range(whole.dim()) if d != 1]
    scale = 1 / (variance + case.settings["eps"]).sqrt()
    normal = [(x.double() - case.along(mean)) * case.along(scale) for x in parts]
    first = [g.double().sum(over) for g in pulls]
    second = [(g.double() * x).sum(over) for g, x in zip(pulls, normal, strict=True)]
    factor = case.along(case.affine[0].double() * scale)

    def back(one, two):
        """Per rank: pull less `one(rank)` per value, less x̂ times `two(rank)`."""
        return [
            (factor * (g.double() - case.along(one(r)) - x * case.along(two(r)))).to(case.dtype)
            for r, (g, x) in enumerate(zip(pulls, normal, strict=True))
        ]

    none = torch.zeros_like(mean)
    own = [max(1, x[:, 0].numel()) for x in parts]
    likely = {
        "statistics-constant": (back(lambda r: none, lambda r: none),),
        "own-sums-only": (
            back(lambda r: first[r] / n, lambda r: second[r] / n), back(lambda r: first[r] / own[r], lambda r: second[r] / own[r]),
            back(lambda r: sum(first) / n, lambda r: second[r] / n), back(lambda r: first[r] / n, lambda r: sum(second) / n),
            # What autograd makes of a plain all_reduce: x̂ does not add up to zero on one rank, and the mean's path sees that.
            back(lambda r: first[r] / n - second[r] * normal[r].sum(over) / n**2, lambda r: second[r] / n),
        ),
        "sums-averaged": (
            back(lambda r: sum(first) / n / case.world, lambda r: sum(second) / n / case.world),
            back(lambda r: sum(first) / n * case.world, lambda r: sum(second) / n * case.world),
            back(lambda r: sum(first) / own[r], lambda r: sum(second) / own[r]),
        ),
        "one-path-forgotten": (
            back(lambda r: sum(first) / n, lambda r: none), back(lambda r: none, lambda r: sum(second) / n),
            back(lambda r: first[r] / n, lambda r: none), back(lambda r: none, lambda r: second[r] / n),
        ),
    }  # fmt: skip
    for rank, out in enumerate(outputs):
        missing = [
            key for key in ("input", "weight", "bias") if out[key] is None and (sizes[rank] or key == "input")
        ]
        expect.that(not missing, "no-gradient", f"the gradient of {missing[:1]} is None on rank {rank}")
    roundings = case.roundings(case.dtype)
    got = [out["input"] for out in outputs]
    expect.close(got, right, "the gradient of the input", likely, **roundings)
    for key, sums in (("weight", second), ("bias", first)):
        # A rank without rows may have None, as with PyTorch's own layer.
        got = [torch.zeros_like(case.affine[0]) if out[key] is None else out[key] for out in outputs]
        want = [one.to(case.wide) for one in sums]
        total = sum(sums).to(case.wide)
        likely = {"affine-gradient-summed": ([total] * case.world, [total / case.world] * case.world)}
        expect.close(got, want, f"the gradient of {key}", likely, **roundings)


# --- all together -----------------------------------------------------------------------------------------------


@check("all four together equal one process, for two epochs")
def loop(learner, draw):
    world = draw.choice([2, 3])
    case = Case(
        draw, world, norm=torch.nn.BatchNorm1d, words=", with batch normalisation, evaluated after each"
    )
    try:
        held = held_in_loop(learner, draw, case)
        draw.case(case.words)
        run = learner.on_ranks(world).drive(
            "loop", [h[0] for h in held], [h[1] for h in held], sizes=case.sizes, seed=case.seed, settings=case.settings, epochs=EPOCHS, micro_batch=case.micro_batch, accumulate=case.accumulate, returns=LOOPED,
        )  # fmt: skip
        reads = [[out["reads"][epoch] for out in run.outputs] for epoch in range(EPOCHS)]
        usable = all(type(i) is int and 0 <= i < case.size for epoch in reads for mine in epoch for i in mine)
        usable = usable and all(len(mine) == len(epoch[0]) > 0 for epoch in reads for mine in epoch)
        expect.that(usable, "not-together", "ShardSampler does not give every rank equally many samples")
        case.orders = reads
        want = case.run()
        same = {"terms": 64 * world, "slack": 1000.0}
        expect.close(
            [out["last"] for out in run.outputs], want["last"], "the vector of all parameters", **same
        )
        expect.close(
            [out["buffers"] for out in run.outputs],
            drive.buffers(want["model"]),
            "the running statistics",
            **same,
        )
        for rank, out in enumerate(run.outputs):
            losses = [x for epoch in out["losses"] for x in epoch]
            right = [sum(map(sum, sums)) / s.total for s, sums in want["told"]]
            expect.that(
                len(losses) == len(right) and all(abs(x - y) < 1e-6 for x, y in zip(losses, right, strict=True)),
                "wrong-values", f"the losses on rank {rank} are not those of one process",
            )  # fmt: skip
            for epoch, right in enumerate(want["measured"]):
                wrong = [key for key, value in right.items() if abs(out["said"][epoch][key] - value) > 1e-6]
                expect.that(not wrong, "wrong-values", f"{wrong} after epoch {epoch} on rank {rank}")
    except expect.Finding as finding:
        if finding.diagnosis in (
            "wrong-values",
            "not-a-number",
            "ranks-differ",
            "deadlock",
            "died",
            "timeout",
        ):
            raise expect.Finding("not-together", finding.message) from None
        raise


def held_in_loop(learner, draw, case):
    """The data set as each rank has it: the rows that ShardSampler gives it in the run, and noise in all others."""
    cases = [(case.size, case.world, case.seed, training) for training in (True, False)]
    training, evaluation = learner.drive("orders", cases, returns=ORDERS)
    held = []
    for trained, measured in zip(training, evaluation, strict=True):
        mine = [i for epoch in (0, 2) for i in trained["epochs"][epoch]] + list(measured["epochs"][0])
        usable = all(type(i) is int and 0 <= i < case.size for i in mine)
        expect.that(usable, "not-together", "ShardSampler gives numbers that are none of a sample")
        held.append(others_lost(draw, (case.inputs, case.targets), mine, case.sizes[0]))
    return held


# --- cost -------------------------------------------------------------------------------------------------------


@check("one gradient per step crosses the network, however many micro-batches", about="communication")
def traffic(learner, draw):
    world, steps, rows = draw.choice([3, 4]), 2, 3
    sizes = (draw.odd(2001, 2401), draw.odd(61, 71))
    size = 4 * sum(p.numel() for p in drive.Net(sizes, 1).parameters())
    draw.case(
        f"{expect.ranks(world)}, {steps} steps of 3 micro-batches; one gradient: S = {expect.amount(size)}"
    )
    whole = draw_tokens(draw, rows * steps * world, sizes[0])
    held = [others_lost(draw, whole, list(range(r, len(whole[0]), world)), sizes[0]) for r in range(world)]
    run = learner.on_ranks(world).drive(
        "large_steps",
        [h[0] for h in held],
        [h[1] for h in held],
        sizes=sizes,
        accumulate=rows,
        returns=TRAINED,
    )
    model = drive.Net(sizes, 1)
    optimizer, losses = drive.make_optimizer(model, {"kind": "SGD", "lr": 0.1}), []
    for inputs, targets in zip(*(part.split(rows * world) for part in whole), strict=True):
        optimizer.zero_grad()
        loss = sum_of_losses(model, inputs, targets) / (targets != IGNORE).sum()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    for rank, out in enumerate(run.outputs):
        expect.that(are_close(out["losses"], losses), "result-first", f"the losses are wrong on rank {rank}")
        right = torch.allclose(out["last"], drive.vector(model.parameters()), rtol=2e-3, atol=1e-5)
        expect.that(right, "result-first", f"the parameters are wrong on rank {rank}")
    ops = {op: sum(c.bytes for c in run.collectives[0] if c.op == op) / steps for op in run.ops()}
    name = "too-much-traffic"
    if ops.get("broadcast", 0) > 0.4 * size:
        name = "parameters-sent"
    elif ops.get("all_gather", 0) > 0.4 * size:
        name = "gradients-gathered"
    elif ops.get("all_reduce", 0) > 2.5 * size:
        name = "sent-every-micro-batch"
    elif ops.get("all_reduce", 0) > 1.5 * size:
        name = "sent-twice"
    bound = 2 * (world - 1) / world * size * steps
    for direction in ("sent", "received"):
        counted = getattr(run, direction)()
        most, least = max(counted), min(counted)
        where = f"bytes {direction} by rank"
        expect.at_most(most, 1.15 * bound + 100_000, f"{where} {counted.index(most)} in {steps} steps", name)
        expect.at_least(
            least, 0.9 * bound, f"{where} {counted.index(least)} in {steps} steps", "too-little-traffic"
        )


def others_lost(draw, whole, mine, vocabulary, predicted=False):
    """The data set as a rank has it: the rows `mine`, and noise in all others; `predicted`: noise that a Parrot is right in."""
    held = draw_tokens(draw, len(whole[0]), vocabulary)
    if predicted:
        inputs, targets = held
        targets[targets != IGNORE] = inputs[targets != IGNORE]
    for tensor, true in zip(held, whole, strict=True):
        tensor[mine] = true[mine]
    return held


def held_for_evaluation(learner, draw, whole, world, vocabulary):
    """The data set as each rank has it: the rows that ShardSampler gives it for evaluation, and noise in all others.

    Of the true rows a Parrot gets hardly any right: who reads noise has another loss and another accuracy.
    """
    (parts,) = learner.drive("parts", [(len(whole[0]), world, False)], returns=[[[None]]])
    usable = all(type(i) is int and 0 <= i < len(whole[0]) for mine in parts for i in mine)
    expect.that(usable, "result-first", "ShardSampler gives numbers that are none of a sample")
    return [others_lost(draw, whole, mine, vocabulary, predicted=True) for mine in parts]


def are_close(got, want):
    """Whether `got` is a list of as many numbers as `want`, near them."""
    numbers = type(got) is list and len(got) == len(want) and all(type(x) in (int, float) for x in got)
    return numbers and all(abs(x - y) <= 1e-5 + 2e-3 * abs(y) for x, y in zip(got, want, strict=True))


@check("statistics and metrics cost the same few bytes for any number of rows", about="communication")
def talk(learner, draw):
    world, channels = 3, draw.odd(41, 61)
    rows = {"norm": draw.integer(2400, 2600), "metrics": draw.integer(5800, 6200)}
    names = {"norm": "SyncBatchNorm", "metrics": "evaluate"}
    words = "; ".join(f"{names[which]} on {count:,} rows of each" for which, count in rows.items())
    draw.case(f"{expect.ranks(world)}, {words}; {channels} channels")
    x = [draw.tensor(rows["norm"], channels) for _ in range(world)]
    whole = draw_tokens(draw, rows["metrics"] * world, 8)
    held = held_for_evaluation(learner, draw, whole, world, 8)
    few = 150_000  # to meet, and some hundreds of numbers; what is sent for every row is several times that
    if all(most <= few for most in talked(learner, world, x, whole, held)):
        return
    for which, name in (("norm", "activations-sent"), ("metrics", "predictions-sent")):
        draw.case(
            f"{expect.ranks(world)}, {names[which]} on {rows[which]:,} rows of each; {channels} channels"
        )
        alone = (x, None, [(None, None)] * world) if which == "norm" else ([None] * world, whole, held)
        for direction, most in zip(("sent", "received"), talked(learner, world, *alone), strict=True):
            expect.at_most(most, few, f"bytes {direction} by a rank", name)
    raise expect.Finding("too-much-traffic", "statistics and metrics together")


def talked(learner, world, x, whole, held):
    """The most bytes that a rank sent and that one received."""
    run = learner.on_ranks(world).drive(
        "talk", x, [h[0] for h in held], [h[1] for h in held],
        returns={"y": (torch.Tensor, type(None)), "grad": (torch.Tensor, type(None)), "said": None},
    )  # fmt: skip
    if x[0] is not None:
        everything = torch.cat(x).requires_grad_()
        y = torch.nn.BatchNorm1d(x[0].shape[1])(everything)
        y.square().sum(1).sin().sum().backward()
        for rank, out in enumerate(run.outputs):
            here = slice(rank * len(x[0]), (rank + 1) * len(x[0]))
            right = all(
                got is not None
                and got.shape == want.shape
                and torch.allclose(got, want, rtol=1e-2, atol=1e-3)
                for got, want in (
                    (out["y"], y.detach()[here].mean(1)),
                    (out["grad"], everything.grad[here].mean(1)),
                )
            )
            expect.that(right, "result-first", f"the numbers of SyncBatchNorm are wrong on rank {rank}")
    for rank, out in enumerate(run.outputs):
        if whole is not None:
            expect.that(
                said_right(out["said"], *whole, 8),
                "result-first",
                f"the numbers of evaluate are wrong on rank {rank}",
            )
    return max(run.sent()), max(run.received())


def said_right(said, inputs, targets, vocabulary):
    """Whether evaluate says of drive.py's Parrot what is true: it gives logit 5 to the token it hears, 0 to all others."""
    right, tokens = int((inputs == targets).sum()), int((targets != IGNORE).sum())
    numbers = type(said) is dict and [said.get(key) for key in ("loss", "accuracy", "tokens")]
    return are_close(numbers, [parrots_loss(inputs, targets, vocabulary), right / tokens, tokens])


def parrots_loss(inputs, targets, vocabulary):
    """The mean cross-entropy of that."""
    return math.log(math.exp(5) + vocabulary - 1) - 5 * float(
        (inputs == targets).sum() / (targets != IGNORE).sum()
    )


@check("a rank holds one micro-batch, in training and in evaluation", about="memory")
def memory(learner, draw):
    rows, vocabulary = 128, draw.integer(9_000, 11_000)
    one = 4 * LENGTH * vocabulary
    draw.case(f"2 ranks with {rows} rows each, 2 at once; the logits of a row: {expect.amount(one)}")
    whole = draw_tokens(draw, 2 * rows, vocabulary)
    held = held_for_evaluation(learner, draw, whole, 2, vocabulary)
    for mine, (inputs, targets) in enumerate(held):  # training reads every second row
        inputs[mine::2], targets[mine::2] = whole[0][mine::2], whole[1][mine::2]
    most = 0.6 * rows * one
    if max(needed(learner, whole, held, vocabulary, ["metrics", "training"])) <= most:
        return
    for which, name in (("training", "all-at-once-in-training"), ("metrics", "all-at-once-in-evaluation")):
        where = {"training": "train_epoch", "metrics": "evaluate"}[which]
        taken = max(needed(learner, whole, held, vocabulary, [which]))
        expect.at_most(
            taken,
            most,
            f"memory that {where} needs on a rank, where the logits of all its rows are {expect.amount(rows * one)}",
            name,
        )
    raise expect.Finding("too-much-memory", "training and evaluation together")


def needed(learner, whole, held, vocabulary, which):
    """Bytes that each rank needs."""
    run = learner.on_ranks(2).drive(
        "room",
        [h[0] for h in held],
        [h[1] for h in held],
        vocabulary=vocabulary,
        which=which,
        returns={"said": None, "losses": None},
    )
    for rank, out in enumerate(run.outputs):
        if "metrics" in which:
            expect.that(
                said_right(out["said"], *whole, vocabulary),
                "result-first",
                f"the numbers of evaluate are wrong on rank {rank}",
            )
        if "training" in which:
            right = are_close(out["losses"], [parrots_loss(*whole, vocabulary)])
            expect.that(right, "result-first", f"the losses of train_epoch are wrong on rank {rank}")
    return run.peak_bytes
