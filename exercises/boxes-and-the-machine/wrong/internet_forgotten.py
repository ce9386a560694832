"""Whether a compute node reaches the internet is not looked at.

fails: place as internet-ignored
"""
# %% where
def where(step, site):
    if step["gpus"] == 0 and step["cores"] <= site["login_cores"] and step["minutes"] <= site["login_minutes"]:
        return "login"
    return "compute"
