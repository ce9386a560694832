"""Judge of "From a cloud job to a request".

Machines and jobs are made up afresh. For each, what the known mistakes would answer is computed beside the right answer,
and a case is drawn again until no two of them agree: so an answer that is wrong shows which mistake it is.
"""

import math
import re

from autograder import expect
from autograder.judge import check

UNITS = ("node-hour", "GPU-hour", "core-hour")
WORDS = ("moor", "tarn", "fell", "beck", "holm", "skerry", "voe", "linn")
ASKED = {"how": str, "text": str, "value": None}


# --- made-up machines and jobs ------------------------------------------------------------------------------------


def a_site(draw, modules=False, unit=None, whole=True, offline=True):
    """A machine that does not exist. modules: whether several of Slurm's GPUs are one module."""
    project = f"{draw.choice(WORDS)}{draw.integer(100, 999)}"
    dies = draw.choice([2, 3]) if modules else 1
    sold = draw.integer(3, 5) if modules else draw.integer(3, 9)
    gpus = sold * dies
    return {
        "gpus_per_node_slurm": gpus,
        "modules_per_node": sold,
        "cores_per_node": gpus * draw.integer(7, 19),
        "billing_unit": unit or draw.choice(UNITS),
        "whole_nodes": whole,
        "max_nodes_per_job": draw.integer(60, 99),
        "max_walltime_h": draw.integer(20, 70),
        "internet_compute": not offline,
        "login_cores": draw.integer(2, 6),
        "login_minutes": draw.integer(8, 40),
        "storage": {
            "home": f"/users/{draw.choice(WORDS)}",
            "project": f"/project/{project}",
            "scratch": f"/scratch/{project}",
        },
    }


def a_job(draw, most_ranks=150):
    instances = draw.integer(2, 9)
    return {
        "instances": instances,
        "gpus_per_instance": draw.integer(2, max(2, most_ranks // instances)),
        "hours": draw.integer(2, 15) + draw.choice([0.25, 0.5, 0.75]),
        "image": f"registry.{draw.choice(WORDS)}.org/{draw.choice(WORDS)}/train:{draw.integer(1, 9)}.{draw.integer(0, 9)}",
        "data": f"s3://{draw.choice(WORDS)}-{draw.integer(10, 99)}/{draw.choice(WORDS)}/{draw.choice(WORDS)}",
    }


def in_words(job, site):
    kind = f"{site['gpus_per_node_slurm']} GPUs per node"
    if site["modules_per_node"] != site["gpus_per_node_slurm"]:
        kind += f" in {site['modules_per_node']} modules"
    return f"{job['instances']} × {job['gpus_per_instance']} GPUs for {job['hours']} h; {kind}"


def gpus_of(job):
    return job["instances"] * job["gpus_per_instance"]


def nodes_of(job, site):
    return math.ceil(gpus_of(job) / site["gpus_per_node_slurm"])


def drawn(draw, make, mistakes, must_show=(), want=lambda job, site: True):
    """A job and a site for which every mistake gives a number of its own; those of `must_show` another than the right one."""
    for _ in range(3000):
        site = make()
        job = a_job(draw)
        if not want(job, site):
            continue
        right, made = mistakes(job, site)
        seen = {name: {v for v in values if not same(v, right)} for name, values in made.items()}
        values = [v for found in seen.values() for v in found]
        apart = all(not same(a, b) for i, a in enumerate(values) for b in values[:i])
        if apart and all(seen[name] for name in must_show):
            return job, site
    raise AssertionError("no case found in which the mistakes differ")


def same(a, b):
    return a == b if isinstance(a, tuple) else abs(a - b) <= 1e-6 * max(abs(a), abs(b), 1e-9)


def name_it(got, right, made, what):
    """Silence if `got` is right; otherwise a Finding with the name of the mistake that gives this number."""
    if same(got, right):
        return
    for name, values in made.items():
        if any(same(got, value) for value in values):
            raise expect.Finding(name, f"{what}: yours is {show(got)}")
    raise expect.Finding("wrong-values", f"{what}: yours is {show(got)}")


def show(value):
    return list(value) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else value


# --- layout -------------------------------------------------------------------------------------------------------


def node_mistakes(job, site):
    ranks, fit, sold = gpus_of(job), site["gpus_per_node_slurm"], site["modules_per_node"]
    return nodes_of(job, site), {
        "module-as-gpu": [math.ceil(ranks / sold)],
        "instances-are-nodes": [job["instances"]],
        "gpus-are-nodes": [ranks],
        "floored-nodes": [ranks // fit],
        "one-node-too-many": [ranks // fit + 1],
        "node-size-assumed": [math.ceil(ranks / 8), math.ceil(ranks / 4), ranks // 8, ranks // 4],
    }


def rank_mistakes(job, site):
    ranks, sold, nodes = gpus_of(job), site["modules_per_node"], nodes_of(job, site)
    return ranks, {
        "idle-gpus-get-ranks": [nodes * site["gpus_per_node_slurm"]],
        "one-rank-per-node": [nodes],
        "module-as-gpu": [nodes * sold],
        "floored-nodes": [ranks // site["gpus_per_node_slurm"] * site["gpus_per_node_slurm"]],
    }


def full(job, site):
    return gpus_of(job) % site["gpus_per_node_slurm"] == 0


def uneven(job, site):
    """The last of several nodes is less than half full, and not all nodes can have as many ranks.

    Nor would an even share be 4 or 8, which are what somebody has who takes a node's size for granted.
    """
    count, rest = nodes_of(job, site), gpus_of(job) % site["gpus_per_node_slurm"]
    apart = gpus_of(job) // count not in (4, 8)
    return count > 1 and 0 < 2 * rest < site["gpus_per_node_slurm"] and gpus_of(job) % count > 0 and apart


def layout_cases(draw):
    """(job, site): modules with a rest, one GPU to a module with a rest, exactly full nodes, less than one node."""
    some = ("instances-are-nodes", "floored-nodes", "node-size-assumed")
    yield drawn(draw, lambda: a_site(draw, True), node_mistakes, (*some, "module-as-gpu"), uneven)
    yield drawn(draw, lambda: a_site(draw), node_mistakes, some, uneven)
    yield drawn(
        draw, lambda: a_site(draw, draw.choice([True, False])), node_mistakes, ("one-node-too-many",), full
    )
    site = a_site(draw, True)
    yield a_job(draw) | {"instances": 1, "gpus_per_instance": site["gpus_per_node_slurm"] - 1}, site


@check("the job's GPUs become nodes and ranks")
def nodes(learner, draw):
    for job, site in layout_cases(draw):
        draw.case(in_words(job, site))
        got = keyed(learner.call("layout", job, site), ("nodes", "ranks", "ranks_per_node"), "layout")
        name_it(whole(got["nodes"], "nodes"), *node_mistakes(job, site), "nodes")
        name_it(whole(got["ranks"], "ranks"), *rank_mistakes(job, site), "ranks")


@check("each node has its ranks, the last what is left")
def placement(learner, draw):
    for job, site in layout_cases(draw):
        draw.case(in_words(job, site))
        got = keyed(learner.call("layout", job, site), ("nodes", "ranks", "ranks_per_node"), "layout")
        mine = got["ranks_per_node"]
        expect.that(isinstance(mine, list | tuple), "not-a-list", f"ranks_per_node: yours is {mine!r:.80}")
        for count in mine:
            whole(count, "ranks_per_node: one of its items")
        name_it(tuple(mine), *placement_mistakes(job, site), "ranks_per_node")


def placement_mistakes(job, site):
    ranks, fit, sold, count = (
        gpus_of(job),
        site["gpus_per_node_slurm"],
        site["modules_per_node"],
        nodes_of(job, site),
    )
    rest = ranks % fit

    def filled(size):
        return tuple(min(size, ranks - start) for start in range(0, ranks, size))

    evenly = tuple(ranks * (i + 1) // count - ranks * i // count for i in range(count))
    return filled(fit), {
        "module-as-gpu": [filled(sold), (sold,) * count, (sold,) * math.ceil(ranks / sold)],
        "instances-are-nodes": [(job["gpus_per_instance"],) * job["instances"]],
        "gpus-are-nodes": [(1,) * ranks],
        "node-size-assumed": [filled(8), filled(4), (8,) * (ranks // 8), (8,) * math.ceil(ranks / 8)],
        "last-node-full": [(fit,) * count],
        "empty-node": [(fit,) * (ranks // fit) + (0,), (fit,) * (count - 1) + (0,)] if not rest else [],
        "ranks-lost": [(fit,) * (ranks // fit), (ranks // count,) * count],
        "rest-first": [tuple(reversed(filled(fit)))],
        "spread-evenly": [evenly, tuple(sorted(evenly)), tuple(sorted(evenly, reverse=True))],
    }


# --- charge -------------------------------------------------------------------------------------------------------


def amount_mistakes(job, site):
    ranks, hours, count = gpus_of(job), job["hours"], nodes_of(job, site)
    fit, sold, cores = site["gpus_per_node_slurm"], site["modules_per_node"], site["cores_per_node"]
    per_node = {"node-hour": 1, "GPU-hour": sold, "core-hour": cores}
    unit = site["billing_unit"]
    share = count if site["whole_nodes"] else ranks / fit
    other = ranks / fit if site["whole_nodes"] else count
    rate = share * per_node[unit]
    module_shared = unit == "GPU-hour" and sold != fit and not site["whole_nodes"]
    made = {
        "idle-gpus-free" if site["whole_nodes"] else "share-charged-whole": [other * per_node[unit] * hours],
        "module-as-gpu": [math.ceil(ranks / sold) * per_node[unit] * hours] if sold != fit else [],
        "die-billed-whole": [share * fit * hours] if unit == "GPU-hour" and sold != fit else [],
        "module-charged-whole": [math.ceil(ranks / (fit // sold)) * hours] if module_shared else [],
        "floored-nodes": [ranks // fit * per_node[unit] * hours],
        "instances-are-nodes": [job["instances"] * per_node[unit] * hours],
        "node-size-assumed": [math.ceil(ranks / size) * per_node[unit] * hours for size in (4, 8)],
        "cores-of-one-gpu": [rate * hours / fit] if unit == "core-hour" else [],
        "hours-cut-off": [rate * int(hours)],
        "hours-rounded-up": [rate * math.ceil(hours)],
        "minutes-charged": [rate * hours * 60],
        "no-hours": [rate],
        "limit-charged": [rate * site["max_walltime_h"]],
    }
    others = {share * n * hours for u, n in (*per_node.items(), ("GPU-hour", fit)) if u != unit}
    bill = ranks * hours
    # In some cases what the cloud would charge is what one of the other mistakes gives; then that one is the name.
    made["another-unit"] = list(others)
    taken = [v for values in made.values() for v in values]
    made["cloud-bill"] = [bill] if not any(same(bill, v) for v in taken) else []
    return rate * hours, made


@check("the job is charged in the site's unit")
def charged(learner, draw):
    both = ("another-unit", "floored-nodes", "instances-are-nodes")
    for modules, unit, all_of_it in (
        (False, "node-hour", True),
        (True, "GPU-hour", True),
        (True, "core-hour", True),
        (True, "GPU-hour", False),
        (False, draw.choice(["core-hour", "node-hour"]), False),
    ):
        must = (*both, "idle-gpus-free" if all_of_it else "share-charged-whole")
        must += ("module-as-gpu",) if modules and all_of_it else ()
        must += ("die-billed-whole",) if modules and unit == "GPU-hour" else ()
        must += ("module-charged-whole",) if modules and not all_of_it else ()
        must += ("cloud-bill",) if all_of_it and not modules else ()
        job, site = drawn(
            draw,
            lambda modules=modules, unit=unit, all_of_it=all_of_it: a_site(draw, modules, unit, all_of_it),
            amount_mistakes, must,
            uneven,
        )  # fmt: skip
        draw.case(f"{in_words(job, site)}; {'whole' if all_of_it else 'shared'} nodes, charged per {unit}")
        got = keyed(learner.call("charge", job, site), ("unit", "amount"), "charge")
        name_it(number(got["amount"], "amount"), *amount_mistakes(job, site), "amount")
        expect.that(got["unit"] == unit, "unit-not-said", f"unit: yours is {got['unit']!r:.80}")


# --- where --------------------------------------------------------------------------------------------------------


@check("each step runs where it belongs")
def place(learner, draw):
    """Each row is what a step needs, where it belongs, and what it means to answer otherwise."""
    site = a_site(draw, offline=True)
    cores, minutes = site["login_cores"], site["login_minutes"]
    few, short = draw.integer(1, cores), draw.integer(1, minutes)
    many, long = draw.integer(cores + 2, 3 * cores + 3), draw.integer(minutes + 2, 20 * minutes)
    gpus = draw.integer(1, 4)
    rows = [
        ((gpus, many, long, False), "compute", {"login": "training-on-login"}),
        ((gpus, few, short, False), "compute", {"login": "training-on-login"}),
        ((0, few, long, False), "compute", {"login": "too-long-for-login"}),
        ((0, many, short, False), "compute", {"login": "too-wide-for-login"}),
        ((0, few, minutes + 1, False), "compute", {"login": "too-long-for-login"}),
        ((0, cores + 1, short, False), "compute", {"login": "too-wide-for-login"}),
        ((0, 1, 1, False), "login", {"compute": "always-compute"}),
        ((0, 1, 1, True), "login", {"compute": "always-compute", "refused": "internet-refused-there"}),
        ((0, cores, minutes, False), "login", {"compute": "limit-not-included"}),
        ((gpus, few, long, True), "refused", {"login": "login-for-internet", "compute": "internet-ignored"}),
        ((0, few, long, True), "refused", {"login": "login-for-internet", "compute": "internet-ignored"}),
    ]
    there = a_site(draw, offline=False)
    heavy, wide = (gpus, 1, 60 * there["login_minutes"], True), (0, 3 * there["login_cores"], 1, True)
    reached = {"login": "login-for-internet", "refused": "internet-refused-there"}
    online = [(heavy, "compute", reached), (wide, "compute", reached)]
    table = [(site, *row) for row in rows] + [(there, *row) for row in online]
    names = ("gpus", "cores", "minutes", "internet")
    steps = [dict(zip(names, needs, strict=True)) for _, needs, _, _ in table]
    words = [
        f"a step of {step['minutes']} minutes on {step['cores']} cores and {step['gpus']} GPUs, "
        f"{'with' if step['internet'] else 'without'} internet; login nodes allow {facts['login_minutes']} minutes "
        f"on {facts['login_cores']} cores; compute nodes with{'' if facts['internet_compute'] else 'out'} internet"
        for step, (facts, *_) in zip(steps, table, strict=True)
    ]
    said = in_any_order(
        learner, draw, "where", words, [(step, row[0]) for step, row in zip(steps, table, strict=True)]
    )
    for text, (_, _, right, otherwise), one in zip(words, table, said, strict=True):
        draw.case(text)
        one = told(one)
        got = "refused" if one["how"] == "refused" else one["value"]
        known = isinstance(got, str) and got in ("login", "compute", "refused")
        expect.that(known, "no-place", f"where: yours is {got!r:.80}")
        expect.that(got == right, otherwise.get(got, "refused-for-nothing"), f"yours: {got}")


def in_any_order(learner, draw, function, words, cases):
    """What `function` says of each case, asked in an order that is drawn: who counts how often it was asked learns nothing."""
    found = {}
    for number in draw.shuffled(range(len(cases))):
        draw.case(words[number])
        found[number] = asked(learner, function, *cases[number])
    return [found[number] for number in range(len(cases))]


def asked(learner, function, first, site):
    return learner.drive("ask", function, first, site, returns=ASKED)


def told(said):
    """What was asked, as an answer or a refusal."""
    expect.that(said["how"] != "stopped", "other-exception", said["text"])
    return said


# --- request ------------------------------------------------------------------------------------------------------

KEYS = ("nodes", "ranks", "ranks_per_node", "charge", "walltime_min", "container", "data")


def requested(learner, job, site):
    said = told(asked(learner, "request", job, site))
    expect.that(said["how"] == "answer", "refused-what-fits", f"yours says: {said['text']}")
    return keyed(said["value"], KEYS, "request")


@check("the request says what layout and charge say, and the time in minutes")
def walltime(learner, draw):
    for _ in range(2):
        site = a_site(draw, draw.choice([True, False]), whole=draw.choice([True, False]))
        job = a_job(draw, 30)
        draw.case(f"{job['hours']} hours; the site allows {site['max_walltime_h']}")
        got = requested(learner, job, site)
        hours = job["hours"]
        name_it(
            whole(got["walltime_min"], "walltime_min") if got["walltime_min"] != hours else hours,
            int(60 * hours),
            {
                "hours-as-minutes": [hours, int(hours), math.ceil(hours)],
                "seconds-as-minutes": [3600 * hours],
                "hours-cut-off": [60 * int(hours)],
                "hours-rounded-up": [60 * math.ceil(hours)],
                "asks-the-most": [60 * site["max_walltime_h"]],
            },
            "walltime_min",
        )
        placed, cost = learner.call("layout", job, site), learner.call("charge", job, site)
        agree = isinstance(placed, dict) and all(
            got[key] == placed.get(key) for key in ("nodes", "ranks", "ranks_per_node")
        )
        expect.that(
            agree and got["charge"] == cost,
            "not-brought-together",
            "request and your other two functions disagree",
        )


@check("image and data are named by their paths")
def files(learner, draw):
    for port, tag, bucket in (
        ("", True, draw.choice(WORDS)),
        ("", True, f"{draw.choice(['s3', '3s', 'ss'])}-{draw.choice(WORDS)}"),  # lstrip eats its beginning
        (f":{draw.integer(5000, 5999)}", True, draw.choice(WORDS)),
        (f":{draw.integer(5000, 5999)}", False, draw.choice(WORDS)),
        ("", False, draw.choice(WORDS)),
    ):
        site, job = a_site(draw), a_job(draw, 30)
        host, team, name = draw.shuffled(WORDS)[:3]
        folder, inner, label = (
            draw.choice(WORDS),
            draw.choice(WORDS),
            f"{draw.integer(1, 30)}.{draw.integer(0, 9)}",
        )
        job["image"] = f"registry.{host}.org{port}/{team}/{name}" + (f":{label}" if tag else "")
        job["data"] = f"s3://{bucket}-{draw.integer(10, 99)}/{folder}/{inner}"
        draw.case(f"{job['image']}, {job['data']}")
        got = requested(learner, job, site)
        container_is_right(
            got["container"], job["image"], f"{name}_{label if tag else 'latest'}.sif", name, site["storage"]
        )
        data_is_right(got["data"], job["data"], site["storage"])


def container_is_right(got, image, file, name, storage):
    say = f"container: yours is {got!r:.120}"
    expect.that(isinstance(got, str), "wrong-type", say)
    if got == f"{storage['project']}/{file}":
        return
    expect.that("://" not in got and got != image, "registry-stays", say)
    expect.that(not got.startswith((storage["home"] + "/", "~", "$HOME")), "into-home", say)
    expect.that(not got.startswith(storage["scratch"] + "/"), "image-in-scratch", say)
    mine = got.rpartition("/")[2]
    tagged = ":" in image.rpartition("/")[2]
    port = re.search(r":(\d+)/", image)
    if got.startswith(storage["project"] + "/"):
        expect.that(not (port and port[1] in mine), "port-is-tag", say)
        expect.that(
            not (tagged and mine in (f"{name}.sif", f"{name}_latest.sif", f"{name}_.sif")), "tag-lost", say
        )
        expect.that(
            tagged or mine not in (f"{name}.sif", f"{name}_.sif", f"{name}_None.sif"), "no-tag-no-latest", say
        )
        parts = set(re.split(r"[/:_.]", got.removeprefix(storage["project"]))) & set(
            image.split("/")[0].split(".")[:2]
        )
        expect.that(
            not parts and image.split("/")[1] not in got.removeprefix(storage["project"]), "whole-name", say
        )
        raise expect.Finding("file-name", say)
    raise expect.Finding("wrong-values", say)


def data_is_right(got, address, storage):
    say = f"data: yours is {got!r:.120}"
    expect.that(isinstance(got, str), "wrong-type", say)
    path = address.removeprefix("s3://")
    got = got.rstrip("/")
    if got == f"{storage['scratch']}/{path}":
        return
    expect.that("://" not in got and not got.startswith("s3:"), "bucket-stays", say)
    expect.that(not got.startswith((storage["home"] + "/", "~", "$HOME")), "into-home", say)
    expect.that(not got.startswith(storage["project"] + "/"), "data-in-project", say)
    below = got.removeprefix(storage["scratch"] + "/")
    bucket, _, rest = path.partition("/")
    expect.that(below != address.lstrip("s3://"), "letters-lost", say)  # noqa: B005 - the mistake itself
    expect.that(below != rest, "bucket-lost", say)
    expect.that(below not in (rest.rpartition("/")[2], bucket), "prefix-lost", say)
    raise expect.Finding("wrong-values", say)


@check("what the site would refuse is refused, with its limit")
def refusals(learner, draw):
    fits = [
        (within(draw, hours=True), "minutes-against-hours"),
        (within(draw, hours=False), "gpus-against-nodes"),
        (at_limit(draw, "nodes", -5, modules=True), "refused-what-fits"),
        (at_limit(draw, "nodes", 0), "limit-itself-refused"),
        (at_limit(draw, "hours", 0), "limit-itself-refused"),
    ]
    beyond = [
        (at_limit(draw, "nodes", draw.integer(20, 60)), "max_nodes_per_job", "limit-ignored"),
        (at_limit(draw, "hours", draw.integer(10, 40)), "max_walltime_h", "limit-ignored"),
        (at_limit(draw, "nodes", 1), "max_nodes_per_job", "one-over"),
        (at_limit(draw, "hours", 1), "max_walltime_h", "one-over"),
        (at_limit(draw, "gpus", 1), "max_nodes_per_job", "floored-nodes"),
        (at_limit(draw, "hours", 0.25), "max_walltime_h", "hours-cut-before-compare"),
    ]
    cases = [case for case, *_ in fits + beyond]
    said = in_any_order(learner, draw, "request", [limits_in_words(*case) for case in cases], cases)
    for ((job, site), name), one in zip(fits, said, strict=False):
        draw.case(limits_in_words(job, site))
        one = told(one)
        expect.that(one["how"] == "answer", name, f"yours says: {one['text']}")
        expect.that(isinstance(one["value"], dict), "result-keys", f"request returned {one['value']!r:.80}")
    for ((job, site), key, name), one in zip(beyond, said[len(fits) :], strict=True):
        limit = site[key]
        draw.case(limits_in_words(job, site))
        one = told(one)
        if one["how"] == "answer":
            expect.that(one["value"] is not None, "returned-nothing", "request returned None")
            value = one["value"] if isinstance(one["value"], dict) else {}
            cut = value.get("nodes") == limit and key == "max_nodes_per_job" and name == "limit-ignored"
            cut = cut or (
                key == "max_walltime_h"
                and value.get("walltime_min") == 60 * limit
                and name == "limit-ignored"
            )
            raise expect.Finding(
                "cut-down" if cut else name, "request returned something where a refusal was due"
            )
        numbers = {float(text) for text in re.findall(r"\d+(?:\.\d+)?", one["text"])}
        expect.that(float(limit) in numbers, "limit-not-named", f"yours says: {one['text'] or 'nothing'}")


def limits_in_words(job, site):
    return f"{in_words(job, site)}; at most {site['max_nodes_per_job']} nodes and {site['max_walltime_h']} h"


def within(draw, hours):
    """A job far inside the limits, of which one looks too large when units are confused: its minutes, or its GPUs."""
    site, job = a_site(draw), a_job(draw)
    if hours:
        job |= {
            "instances": 2,
            "gpus_per_instance": draw.integer(2, 8),
            "hours": site["max_walltime_h"] - 5.5,
        }
    else:
        site["max_walltime_h"] = draw.integer(60, 70)
        fewest, most = (
            site["max_nodes_per_job"] + 1,
            (site["max_nodes_per_job"] - 5) * site["gpus_per_node_slurm"],
        )
        ranks = 2 * draw.integer((fewest + 1) // 2, most // 2)
        job |= {"instances": 2, "gpus_per_instance": ranks // 2, "hours": draw.choice([0.25, 0.5, 0.75])}
    return job, site


def at_limit(draw, what, beyond, modules=False):
    """A job of the largest number of nodes, or hours, and `beyond` more; "gpus": full nodes, and so many GPUs more.

    The number that is asked for is far from the other limit, and is no limit of anything itself.
    """
    site = a_site(draw, modules)
    job = a_job(draw) | {"instances": 1, "hours": site["max_walltime_h"] // 2 + 0.5}
    fit, most = site["gpus_per_node_slurm"], site["max_nodes_per_job"]
    if what == "nodes":
        job["gpus_per_instance"] = (most + beyond) * fit
    elif what == "gpus":
        job["gpus_per_instance"] = most * fit + beyond
    else:
        job |= {"gpus_per_instance": 2 * fit - 1, "hours": float(site["max_walltime_h"] + beyond)}
    return job, site


# --- forms --------------------------------------------------------------------------------------------------------


def keyed(value, keys, what):
    expect.that(isinstance(value, dict), "result-keys", f"{what} returned {value!r:.80}")
    lacking = [key for key in keys if key not in value]
    expect.that(not lacking, "result-keys", f"{what}: {', '.join(lacking)} missing")
    return value


def whole(value, what):
    expect.that(type(value) is int, "not-whole", f"{what}: yours is {value!r:.80}")
    return value


def number(value, what):
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    expect.that(good, "wrong-type", f"{what}: yours is {value!r:.80}")
    return value
