"""Makes the charge in request a second time, and forgets the hours there.

fails: walltime as not-brought-together
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
    placed.update(charge={"unit": site["billing_unit"], "amount": placed["nodes"]}, walltime_min=int(60 * job["hours"]), container=image, data=data)
    return placed
