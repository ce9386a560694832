"""Nodes by round: a last node that is less than half full is lost.

fails: nodes as floored-nodes
fails: placement as ranks-lost
fails: charged as floored-nodes
fails: refusals as floored-nodes
"""
# %% layout
def layout(job, site):
    ranks = job["instances"] * job["gpus_per_instance"]
    fit = site["gpus_per_node_slurm"]
    nodes = round(ranks / fit)
    return {"nodes": nodes, "ranks": ranks, "ranks_per_node": [min(fit, ranks - n * fit) for n in range(nodes)]}
