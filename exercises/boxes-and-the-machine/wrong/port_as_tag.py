"""Takes what follows the first colon for the tag: with a port in the registry's name, it is the port.

fails: files as port-is-tag
"""
# %% request
def request(job, site):
    placed = layout(job, site)
    if placed["nodes"] > site["max_nodes_per_job"]:
        raise ValueError(f"at most {site['max_nodes_per_job']} nodes")
    if job["hours"] > site["max_walltime_h"]:
        raise ValueError(f"at most {site['max_walltime_h']} hours")
    name, _, tag = job["image"].partition(":")
    name, tag = job["image"].split("/")[-1].split(":")[0], tag.split("/")[0]
    image = f"{site['storage']['project']}/{name}_{tag or 'latest'}.sif"
    data = f"{site['storage']['scratch']}/{job['data'].removeprefix('s3://')}"
    placed.update(charge=charge(job, site), walltime_min=int(60 * job["hours"]), container=image, data=data)
    return placed
