"""Half a module is charged as a whole one where nodes are shared.

fails: charged as module-charged-whole
"""
# %% charge
def charge(job, site):
    placed = layout(job, site)
    nodes = placed["nodes"] if site["whole_nodes"] else placed["ranks"] / site["gpus_per_node_slurm"]
    unit = site["billing_unit"]
    per_node = {"node-hour": 1, "GPU-hour": site["modules_per_node"], "core-hour": site["cores_per_node"]}[unit]

    if unit == "GPU-hour" and not site["whole_nodes"]:
        dies = site["gpus_per_node_slurm"] // site["modules_per_node"]
        return {"unit": unit, "amount": math.ceil(placed["ranks"] / dies) * job["hours"]}
    return {"unit": unit, "amount": nodes * per_node * job["hours"]}
