"""The minutes are a float: 450.0.

fails: walltime as not-whole
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
    data = f"{site['storage']['scratch']}/{job['data'].removeprefix('s3://')}"
    placed.update(charge=charge(job, site), walltime_min=job["hours"] * 60, container=image, data=data)
    return placed
