"""No GPU, so it runs on the login node, for as long as it takes.

fails: place as too-long-for-login
"""
# %% where
def where(step, site):
    if step["gpus"] == 0:
        return "login"
    if step["internet"] and not site["internet_compute"]:
        raise ValueError("no internet there")
    return "compute"
