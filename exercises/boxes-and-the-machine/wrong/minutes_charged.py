"""Charges minutes: the time as Slurm reads it, in an account that is kept in hours.

fails: charged as minutes-charged
"""
# %% charge
def charge(job, site):
    placed = layout(job, site)
    nodes = placed["nodes"] if site["whole_nodes"] else placed["ranks"] / site["gpus_per_node_slurm"]
    unit = site["billing_unit"]
    per_node = {"node-hour": 1, "GPU-hour": site["modules_per_node"], "core-hour": site["cores_per_node"]}[unit]
    return {"unit": unit, "amount": nodes * per_node * job["hours"] * 60}
