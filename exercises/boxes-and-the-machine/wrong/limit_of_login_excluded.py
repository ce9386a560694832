"""A step of exactly the allowed minutes is sent to a compute node.

fails: place as limit-not-included
"""
# %% where
def where(step, site):
    if step["gpus"] == 0 and step["cores"] < site["login_cores"] and step["minutes"] < site["login_minutes"]:
        return "login"
    if step["internet"] and not site["internet_compute"]:
        raise ValueError("no internet on compute nodes: fetch first")
    return "compute"
