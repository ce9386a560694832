"""Cuts off the part of the hours after the point, in the charge and in the time.

fails: charged as hours-cut-off
fails: walltime as hours-cut-off
"""
# %% charge
def charge(job, site):
    placed = layout(job, site)
    nodes = placed["nodes"] if site["whole_nodes"] else placed["ranks"] / site["gpus_per_node_slurm"]
    unit = site["billing_unit"]
    per_node = {"node-hour": 1, "GPU-hour": site["modules_per_node"], "core-hour": site["cores_per_node"]}[unit]
    return {"unit": unit, "amount": nodes * per_node * int(job["hours"])}
# %% request
def request(job, site):
    placed = layout(job, site)
    if placed["nodes"] > site["max_nodes_per_job"]:
        raise ValueError(f"at most {site['max_nodes_per_job']} nodes")
    if job["hours"] > site["max_walltime_h"]:
        raise ValueError(f"at most {site['max_walltime_h']} hours")
    name, _, tag = job["image"].split("/")[-1].partition(":")
    image = f"{site['storage']['project']}/{name}_{tag or 'latest'}.sif"
    data = f"{site['storage']['scratch']}/{job['data'].removeprefix('s3://')}"
    placed.update(charge=charge(job, site), walltime_min=60 * int(job["hours"]), container=image, data=data)
    return placed
