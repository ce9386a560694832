"""Charges the share of a node that is used where nodes are charged whole.

fails: charged as idle-gpus-free
"""
# %% charge
def charge(job, site):
    placed = layout(job, site)
    nodes = placed["ranks"] / site["gpus_per_node_slurm"]
    unit = site["billing_unit"]
    per_node = {"node-hour": 1, "GPU-hour": site["modules_per_node"], "core-hour": site["cores_per_node"]}[unit]
    return {"unit": unit, "amount": nodes * per_node * job["hours"]}
