"""torchrun is started once per node, so there is one rank per node.

fails: nodes as one-rank-per-node
"""
# %% layout
def layout(job, site):
    ranks = job["instances"] * job["gpus_per_instance"]
    fit = site["gpus_per_node_slurm"]
    nodes = math.ceil(ranks / fit)
    return {"nodes": nodes, "ranks": nodes, "ranks_per_node": [min(fit, ranks - n * fit) for n in range(nodes)]}
# %% charge
def charge(job, site):
    placed = layout(job, site)
    nodes = placed["nodes"] if site["whole_nodes"] else job["instances"] * job["gpus_per_instance"] / site["gpus_per_node_slurm"]
    unit = site["billing_unit"]
    per_node = {"node-hour": 1, "GPU-hour": site["modules_per_node"], "core-hour": site["cores_per_node"]}[unit]
    return {"unit": unit, "amount": nodes * per_node * job["hours"]}
