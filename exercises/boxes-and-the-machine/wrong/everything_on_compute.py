"""Login nodes are for logging in: every step is a job.

fails: place as always-compute
"""
# %% where
def where(step, site):
    if step["internet"] and not site["internet_compute"]:
        raise ValueError("no internet there")
    return "compute"
