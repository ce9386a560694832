"""Charges whole nodes where they are shared.

fails: charged as share-charged-whole
"""
# %% charge
def charge(job, site):
    placed = layout(job, site)
    nodes = placed["nodes"]
    unit = site["billing_unit"]
    per_node = {"node-hour": 1, "GPU-hour": site["modules_per_node"], "core-hour": site["cores_per_node"]}[unit]
    return {"unit": unit, "amount": nodes * per_node * job["hours"]}
