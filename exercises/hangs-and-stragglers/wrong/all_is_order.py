"""Takes every difference of names for an order.

fails: hangs as branch-not-order
"""
# %% diagnose
def diagnose(report: dict) -> dict | None:
    """{"kind", "rank", "operation", "line"} of the fault in this run; None if nothing is wrong."""
    everyone = report["ranks"]
    for number in range(max(len(one["ops"]) for one in everyone)):
        here = {one["rank"]: one["ops"][number] for one in everyone if number < len(one["ops"])}
        missing = [one for one in everyone if one["rank"] not in here]
        if missing:
            who = missing[0]
            kind = "raised" if who["state"] == "raised" else "left"
            operation = Counter(op["op"] for op in here.values()).most_common(1)[0][0]
            return {"kind": kind, "rank": who["rank"], "operation": operation, "line": who["line"]}
        for key in ("op", "size"):
            usual = Counter(op[key] for op in here.values()).most_common(1)[0][0]
            odd = [rank for rank, op in here.items() if op[key] != usual]
            if odd:
                op = here[odd[0]]
                others = {o["op"] for one in everyone if one["rank"] != odd[0] for o in one["ops"]}
                kind = "shapes" if key == "size" else "order"
                return {"kind": kind, "rank": odd[0], "operation": op["op"], "line": op["line"]}
    before = {}  # (line, operation) → for each rank the seconds it took before it
    for one in everyone:
        last = 0.0
        for op in one["ops"]:
            before.setdefault((op["line"], op["op"]), {}).setdefault(one["rank"], []).append(op["begin"] - last)
            last = op["end"]
    for (line, operation), seconds in before.items():
        *_, second, slowest = sorted((median(taken), rank) for rank, taken in seconds.items())
        if slowest[0] > 2 * second[0]:
            return {"kind": "straggler", "rank": slowest[1], "operation": operation, "line": line}
    return None
