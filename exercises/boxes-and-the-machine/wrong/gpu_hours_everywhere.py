"""Counts GPU-hours at every site, whatever its unit.

fails: charged as another-unit
"""
# %% charge
def charge(job, site):
    placed = layout(job, site)
    nodes = placed["nodes"] if site["whole_nodes"] else placed["ranks"] / site["gpus_per_node_slurm"]
    return {"unit": "GPU-hour", "amount": nodes * site["modules_per_node"] * job["hours"]}
