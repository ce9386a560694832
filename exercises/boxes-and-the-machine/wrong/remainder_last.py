"""The last node gets the remainder of the division, which is 0 when it is full.

fails: placement as empty-node
"""
# %% layout
def layout(job, site):
    ranks = job["instances"] * job["gpus_per_instance"]
    fit = site["gpus_per_node_slurm"]
    nodes = math.ceil(ranks / fit)
    return {"nodes": nodes, "ranks": ranks, "ranks_per_node": [fit] * (nodes - 1) + [ranks % fit]}
