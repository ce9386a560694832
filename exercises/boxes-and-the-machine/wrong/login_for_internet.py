"""Everything that needs the internet goes to the login node.

fails: place as login-for-internet
"""
# %% where
def where(step, site):
    if step["internet"]:
        return "login"
    small = step["cores"] <= site["login_cores"] and step["minutes"] <= site["login_minutes"]
    return "login" if step["gpus"] == 0 and small else "compute"
