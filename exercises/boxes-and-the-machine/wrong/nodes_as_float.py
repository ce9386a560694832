"""Nodes are a fraction that was rounded: 3.0.

fails: nodes as not-whole
"""
# %% layout
def layout(job, site):
    ranks = job["instances"] * job["gpus_per_instance"]
    fit = site["gpus_per_node_slurm"]
    nodes = math.ceil(ranks / fit)
    return {"nodes": float(nodes), "ranks": ranks, "ranks_per_node": [min(fit, ranks - n * fit) for n in range(nodes)]}
