"""A GPU-hour for each GPU of Slurm's, also where two of them are one module.

fails: charged as die-billed-whole
"""
# %% charge
def charge(job, site):
    placed = layout(job, site)
    nodes = placed["nodes"] if site["whole_nodes"] else placed["ranks"] / site["gpus_per_node_slurm"]
    unit = site["billing_unit"]
    per_node = {"node-hour": 1, "GPU-hour": site["gpus_per_node_slurm"], "core-hour": site["cores_per_node"]}[unit]
    return {"unit": unit, "amount": nodes * per_node * job["hours"]}
