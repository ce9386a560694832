"""ranks_per_node is one number, as in --ntasks-per-node.

fails: placement as not-a-list
"""
# %% layout
def layout(job, site):
    ranks = job["instances"] * job["gpus_per_instance"]
    fit = site["gpus_per_node_slurm"]
    nodes = math.ceil(ranks / fit)
    return {"nodes": nodes, "ranks": ranks, "ranks_per_node": min(fit, ranks)}
