"""Nodes by //: GPUs beyond the last full node have no node.

fails: nodes as floored-nodes
fails: placement as ranks-lost
fails: charged as floored-nodes
fails: refusals as floored-nodes
"""
# %% layout
def layout(job, site):
    ranks = job["instances"] * job["gpus_per_instance"]
    nodes = ranks // site["gpus_per_node_slurm"]
    return {"nodes": nodes, "ranks": ranks, "ranks_per_node": [site["gpus_per_node_slurm"]] * nodes}
