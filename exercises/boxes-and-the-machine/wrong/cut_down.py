"""Cuts nodes and hours down to what is allowed.

fails: refusals as cut-down
"""
# %% request
def request(job, site):
    placed = layout(job, site)
    placed["nodes"] = min(placed["nodes"], site["max_nodes_per_job"])
    name, _, tag = job["image"].split("/")[-1].partition(":")
    image = f"{site['storage']['project']}/{name}_{tag or 'latest'}.sif"
    data = f"{site['storage']['scratch']}/{job['data'].removeprefix('s3://')}"
    placed.update(charge=charge(job, site), walltime_min=int(60 * min(job["hours"], site["max_walltime_h"])), container=image, data=data)
    return placed
