"""GPUs times hours, as on the cloud's bill.

fails: charged as cloud-bill
"""
# %% charge
def charge(job, site):
    return {"unit": site["billing_unit"], "amount": job["instances"] * job["gpus_per_instance"] * job["hours"]}
