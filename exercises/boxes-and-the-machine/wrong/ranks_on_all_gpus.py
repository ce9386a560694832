"""The nodes are reserved anyhow, so a rank runs on each of their GPUs.

fails: nodes as idle-gpus-get-ranks
fails: placement as last-node-full
fails: charged as share-charged-whole
"""
# %% layout
def layout(job, site):
    ranks = job["instances"] * job["gpus_per_instance"]
    fit = site["gpus_per_node_slurm"]
    nodes = math.ceil(ranks / fit)
    return {"nodes": nodes, "ranks": nodes * fit, "ranks_per_node": [fit] * nodes}
