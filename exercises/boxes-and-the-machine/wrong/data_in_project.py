"""The data goes into the project's folder.

fails: files as data-in-project
"""
# %% request
def request(job, site):
    placed = layout(job, site)
    if placed["nodes"] > site["max_nodes_per_job"]:
        raise ValueError(f"at most {site['max_nodes_per_job']} nodes")
    if job["hours"] > site["max_walltime_h"]:
        raise ValueError(f"at most {site['max_walltime_h']} hours")
    name, _, tag = job["image"].split("/")[-1].partition(":")
    image = f"{site['storage']['project']}/{name}_{tag or 'latest'}.sif"
    data = f"{site['storage']['project']}/{job['data'].removeprefix('s3://')}"
    placed.update(charge=charge(job, site), walltime_min=int(60 * job["hours"]), container=image, data=data)
    return placed
