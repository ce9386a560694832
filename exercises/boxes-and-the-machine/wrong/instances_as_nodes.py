"""Three instances become three nodes, with the cloud's number of GPUs in each.

fails: nodes as instances-are-nodes
fails: placement as instances-are-nodes
fails: charged as instances-are-nodes
fails: refusals as limit-ignored
"""
# %% layout
def layout(job, site):
    nodes, each = job["instances"], job["gpus_per_instance"]
    return {"nodes": nodes, "ranks": nodes * each, "ranks_per_node": [each] * nodes}
