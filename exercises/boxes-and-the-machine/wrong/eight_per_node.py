"""A node has eight GPUs, like the box in the cloud.

fails: nodes as node-size-assumed
fails: placement as node-size-assumed
fails: charged as node-size-assumed
"""
# %% layout
def layout(job, site):
    ranks = job["instances"] * job["gpus_per_instance"]
    fit = 8
    nodes = math.ceil(ranks / fit)
    return {"nodes": nodes, "ranks": ranks, "ranks_per_node": [min(fit, ranks - n * fit) for n in range(nodes)]}
# %% request
def request(job, site):
    nodes = math.ceil(job["instances"] * job["gpus_per_instance"] / site["gpus_per_node_slurm"])
    if nodes > site["max_nodes_per_job"]:
        raise ValueError(f"{site['max_nodes_per_job']} nodes at most")
    if job["hours"] > site["max_walltime_h"]:
        raise ValueError(f"{site['max_walltime_h']} hours at most")
    name, _, tag = job["image"].split("/")[-1].partition(":")
    return layout(job, site) | {
        "charge": charge(job, site),
        "walltime_min": int(60 * job["hours"]),
        "container": f"{site['storage']['project']}/{name}_{tag or 'latest'}.sif",
        "data": f"{site['storage']['scratch']}/{job['data'].removeprefix('s3://')}",
    }
