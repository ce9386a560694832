"""Hands out GPUs node by node, reads image and address with regular expressions, says all reasons at once."""
# %% layout
import re


def layout(job, site):
    left, placed = job["instances"] * job["gpus_per_instance"], []
    while left > 0:
        placed += [min(left, site["gpus_per_node_slurm"])]
        left -= placed[-1]
    return dict(nodes=len(placed), ranks=sum(placed), ranks_per_node=placed)
# %% request
def request(job, site):
    answer = layout(job, site)
    reasons = []
    for what, asked, limit in (
        ("nodes", answer["nodes"], site["max_nodes_per_job"]),
        ("hours", job["hours"], site["max_walltime_h"]),
    ):
        if asked > limit:
            reasons.append(f"{what}: {asked:g} asked, {limit} allowed")
    if reasons:
        raise ValueError("; ".join(reasons))
    image = re.search(r"([^/:]+)(?::([^/:]+))?$", job["image"])
    answer["container"] = "/".join([site["storage"]["project"], f"{image[1]}_{image[2] or 'latest'}.sif"])
    answer["data"] = re.sub("^s3:/", site["storage"]["scratch"], job["data"])
    answer["walltime_min"] = round(job["hours"] * 60)
    answer["charge"] = charge(job, site)
    return answer
