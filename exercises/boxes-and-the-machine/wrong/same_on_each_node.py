"""The ranks are divided by the nodes, and what is left over is lost.

fails: placement as ranks-lost
"""
# %% layout
def layout(job, site):
    ranks = job["instances"] * job["gpus_per_instance"]
    fit = site["gpus_per_node_slurm"]
    nodes = math.ceil(ranks / fit)
    return {"nodes": nodes, "ranks": ranks, "ranks_per_node": [ranks // nodes] * nodes}
