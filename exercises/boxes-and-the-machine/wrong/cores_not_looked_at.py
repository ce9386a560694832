"""How many cores a step takes on the login node is not looked at.

fails: place as too-wide-for-login
"""
# %% where
def where(step, site):
    if step["gpus"] == 0 and step["minutes"] <= site["login_minutes"]:
        return "login"
    if step["internet"] and not site["internet_compute"]:
        raise ValueError("no internet on compute nodes: fetch first")
    return "compute"
