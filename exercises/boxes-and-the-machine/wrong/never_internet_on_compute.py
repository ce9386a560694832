"""Refuses the internet on compute nodes also where they reach it.

fails: place as internet-refused-there
"""
# %% where
def where(step, site):
    if step["gpus"] == 0 and step["cores"] <= site["login_cores"] and step["minutes"] <= site["login_minutes"]:
        return "login"
    if step["internet"]:
        raise ValueError("no internet on compute nodes: fetch first")
    return "compute"
