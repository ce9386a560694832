"""Ranks are spread over the nodes instead of filling them.

fails: placement as spread-evenly
"""
# %% layout
def layout(job, site):
    ranks = job["instances"] * job["gpus_per_instance"]
    fit = site["gpus_per_node_slurm"]
    nodes = math.ceil(ranks / fit)
    return {"nodes": nodes, "ranks": ranks, "ranks_per_node": [ranks // nodes + (n < ranks % nodes) for n in range(nodes)]}
