"""The MI250X is one GPU, says the vendor: four to a node. Slurm counts eight.

fails: nodes as module-as-gpu
fails: placement as module-as-gpu
fails: charged as module-as-gpu
fails: refusals as refused-what-fits
"""
# %% layout
def layout(job, site):
    ranks = job["instances"] * job["gpus_per_instance"]
    fit = site["modules_per_node"]
    nodes = math.ceil(ranks / fit)
    return {"nodes": nodes, "ranks": ranks, "ranks_per_node": [min(fit, ranks - n * fit) for n in range(nodes)]}
# %% charge
def charge(job, site):
    nodes = layout(job, site)["nodes"]
    if not site["whole_nodes"]:
        nodes = job["instances"] * job["gpus_per_instance"] / site["gpus_per_node_slurm"]
    per_node = {"node-hour": 1, "GPU-hour": site["modules_per_node"], "core-hour": site["cores_per_node"]}
    return {"unit": site["billing_unit"], "amount": nodes * per_node[site["billing_unit"]] * job["hours"]}
