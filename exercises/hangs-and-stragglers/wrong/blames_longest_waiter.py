"""Sees who left; otherwise it goes where most ranks wait, and blames the one that waits there longest: it was there first.

fails: hangs as blames-the-waiting
fails: stragglers as blames-the-waiting
"""
# %% diagnose
def diagnose(report):
    everyone = report["ranks"]
    stuck = [one for one in everyone if one["ops"][-1]["end"] is None]
    if stuck:
        operation = Counter(one["ops"][-1]["op"] for one in stuck).most_common(1)[0][0]
        for one in everyone:
            if one not in stuck and one["state"] != "waiting":
                kind = "raised" if one["state"] == "raised" else "left"
                return {"kind": kind, "rank": one["rank"], "operation": operation, "line": one["line"]}
        what = Counter((one["ops"][-1]["op"], one["ops"][-1]["size"]) for one in stuck).most_common(1)[0][0]
        there = [one for one in stuck if (one["ops"][-1]["op"], one["ops"][-1]["size"]) == what]
        who = min(there, key=lambda one: one["ops"][-1]["begin"])
        return {"kind": "order", "rank": who["rank"], "operation": operation, "line": who["line"]}
    waited = {one["rank"]: {} for one in everyone}
    for one in everyone:
        for op in one["ops"]:
            waited[one["rank"]].setdefault((op["op"], op["line"]), []).append(op["end"] - op["begin"])
    seconds, rank, (operation, line) = max((median(s), rank, key) for rank, all_of in waited.items() for key, s in all_of.items())
    if seconds < 0.015:
        return None
    return {"kind": "straggler", "rank": rank, "operation": operation, "line": line}
