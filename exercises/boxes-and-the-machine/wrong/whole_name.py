"""The slashes of the image's name stay, and make folders that do not exist.

fails: files as whole-name
"""
# %% request
def request(job, site):
    placed = layout(job, site)
    if placed["nodes"] > site["max_nodes_per_job"]:
        raise ValueError(f"at most {site['max_nodes_per_job']} nodes")
    if job["hours"] > site["max_walltime_h"]:
        raise ValueError(f"at most {site['max_walltime_h']} hours")
    name, _, tag = job["image"].rpartition("/")[2].partition(":")
    image = f"{site['storage']['project']}/{job['image'].split('/')[1]}/{name}_{tag or 'latest'}.sif"
    data = f"{site['storage']['scratch']}/{job['data'].removeprefix('s3://')}"
    placed.update(charge=charge(job, site), walltime_min=int(60 * job["hours"]), container=image, data=data)
    return placed
