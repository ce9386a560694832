"""Everything in one helper, paths with pathlib, whole nodes charged by rounding the share up."""
# %% layout
from pathlib import PurePosixPath


def layout(job, site):
    ranks, fit = job["instances"] * job["gpus_per_instance"], site["gpus_per_node_slurm"]
    nodes = -(-ranks // fit)
    return {"nodes": nodes, "ranks": ranks, "ranks_per_node": [fit] * (nodes - 1) + [ranks - fit * (nodes - 1)]}
# %% charge
def charge(job, site):
    share = job["instances"] * job["gpus_per_instance"] / site["gpus_per_node_slurm"]
    if site["whole_nodes"]:
        share = math.ceil(share)
    match site["billing_unit"]:
        case "node-hour":
            factor = 1
        case "GPU-hour":
            factor = site["modules_per_node"]
        case "core-hour":
            factor = site["cores_per_node"]
    return {"unit": site["billing_unit"], "amount": share * job["hours"] * factor}
# %% request
def request(job, site):
    class TooLarge(ValueError):
        pass

    found = {**layout(job, site), "charge": charge(job, site), "walltime_min": int(job["hours"] * 60)}
    if found["walltime_min"] > site["max_walltime_h"] * 60:
        raise TooLarge("The longest job here takes %d hours." % site["max_walltime_h"])
    if not found["nodes"] <= site["max_nodes_per_job"]:
        raise TooLarge("The largest job here has %d nodes." % site["max_nodes_per_job"])
    image = PurePosixPath(job["image"]).name
    if ":" not in image:
        image += ":latest"
    project, scratch = (PurePosixPath(site["storage"][key]) for key in ("project", "scratch"))
    found["container"] = str(project / (image.replace(":", "_") + ".sif"))
    found["data"] = str(scratch / job["data"][len("s3://") :])
    return found
