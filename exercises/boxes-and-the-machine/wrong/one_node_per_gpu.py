"""One node for each GPU, as with instances of one GPU.

fails: nodes as gpus-are-nodes
fails: placement as gpus-are-nodes
fails: charged as cloud-bill
fails: refusals as gpus-against-nodes
"""
# %% layout
def layout(job, site):
    ranks = job["instances"] * job["gpus_per_instance"]
    return {"nodes": ranks, "ranks": ranks, "ranks_per_node": [1] * ranks}
