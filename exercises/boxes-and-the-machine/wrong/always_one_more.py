"""Rounds up by adding one, also when the GPUs fill their nodes exactly.

fails: nodes as one-node-too-many
fails: placement as empty-node
fails: refusals as limit-itself-refused
"""
# %% layout
def layout(job, site):
    ranks = job["instances"] * job["gpus_per_instance"]
    fit = site["gpus_per_node_slurm"]
    nodes = ranks // fit + 1
    return {"nodes": nodes, "ranks": ranks, "ranks_per_node": [min(fit, ranks - n * fit) for n in range(nodes)]}
