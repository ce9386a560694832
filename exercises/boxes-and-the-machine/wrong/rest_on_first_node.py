"""The node that is not full comes first.

fails: placement as rest-first
"""
# %% layout
def layout(job, site):
    ranks = job["instances"] * job["gpus_per_instance"]
    fit = site["gpus_per_node_slurm"]
    nodes = math.ceil(ranks / fit)
    return {"nodes": nodes, "ranks": ranks, "ranks_per_node": [min(fit, ranks - n * fit) for n in range(nodes)][::-1]}
