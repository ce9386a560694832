"""What is short goes to the login node, with GPUs or without.

fails: place as training-on-login
"""
# %% where
def where(step, site):
    if step["cores"] <= site["login_cores"] and step["minutes"] <= site["login_minutes"]:
        return "login"
    if step["internet"] and not site["internet_compute"]:
        raise ValueError("no internet on compute nodes: fetch first")
    return "compute"
