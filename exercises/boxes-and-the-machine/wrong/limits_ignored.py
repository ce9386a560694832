"""Returns a request for whatever is asked.

fails: refusals as limit-ignored
"""
# %% request
def request(job, site):
    placed = layout(job, site)
    name, _, tag = job["image"].split("/")[-1].partition(":")
    image = f"{site['storage']['project']}/{name}_{tag or 'latest'}.sif"
    data = f"{site['storage']['scratch']}/{job['data'].removeprefix('s3://')}"
    placed.update(charge=charge(job, site), walltime_min=int(60 * job["hours"]), container=image, data=data)
    return placed
