"""The amount is right, and its unit is called hours.

fails: charged as unit-not-said
"""
# %% charge
def charge(job, site):
    placed = layout(job, site)
    nodes = placed["nodes"] if site["whole_nodes"] else placed["ranks"] / site["gpus_per_node_slurm"]
    unit = site["billing_unit"]
    per_node = {"node-hour": 1, "GPU-hour": site["modules_per_node"], "core-hour": site["cores_per_node"]}[unit]
    return {"unit": "hours", "amount": nodes * per_node * job["hours"]}
