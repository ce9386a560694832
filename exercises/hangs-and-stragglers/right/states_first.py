"""Looks at the ranks' states before it compares operations; counts steps in which a rank is late.
"""
# %% diagnose
def diagnose(report):
    everyone = report["ranks"]
    most = max(len(one["ops"]) for one in everyone)
    gone = [one for one in everyone if len(one["ops"]) < most]
    if gone:
        (who,) = gone
        other = next(one for one in everyone if one is not who)["ops"][len(who["ops"])]
        return dict(kind=("left", "raised")[who["state"] == "raised"], rank=who["rank"], operation=other["op"], line=who["line"])
    lasts = [one["ops"][-1] for one in everyone]
    if any(last["end"] is None for last in lasts):
        for rank, mine in enumerate(lasts):
            others = lasts[:rank] + lasts[rank + 1 :]
            if all(mine["op"] != other["op"] for other in others):
                known = any(op["op"] == mine["op"] for r, one in enumerate(everyone) if r != rank for op in one["ops"])
                return dict(kind="order" if known else "branch", rank=rank, operation=mine["op"], line=mine["line"])
            if all(mine["size"] != other["size"] for other in others):
                return dict(kind="shapes", rank=rank, operation=mine["op"], line=mine["line"])
    late = Counter()
    for number in range(most):
        begins = []
        for one in everyone:
            before = one["ops"][number - 1]["end"] if number else 0.0
            begins.append((one["ops"][number]["begin"] - before, one["rank"]))
        *_, second, last = sorted(begins)
        if last[0] > 2 * second[0]:
            op = everyone[0]["ops"][number]
            late[last[1], op["op"], op["line"]] += 1
    for (rank, operation, line), times in late.items():
        if times > sum(op["line"] == line for op in everyone[0]["ops"]) / 2:
            return dict(kind="straggler", rank=rank, operation=operation, line=line)
