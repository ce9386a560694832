"""divmod for the nodes, exact fractions for the charge, a table of rules for the place."""
# %% layout
from fractions import Fraction


def layout(job, site):
    total = job["instances"] * job["gpus_per_instance"]
    full, rest = divmod(total, site["gpus_per_node_slurm"])
    placed = [site["gpus_per_node_slurm"]] * full
    if rest:
        placed.append(rest)
    return {"ranks_per_node": placed, "ranks": sum(placed), "nodes": len(placed)}
# %% charge
def charge(job, site):
    per_gpu = {
        "node-hour": Fraction(1, site["gpus_per_node_slurm"]),
        "GPU-hour": Fraction(site["modules_per_node"], site["gpus_per_node_slurm"]),
        "core-hour": Fraction(site["cores_per_node"], site["gpus_per_node_slurm"]),
    }
    placed = layout(job, site)
    gpus = placed["nodes"] * site["gpus_per_node_slurm"] if site["whole_nodes"] else placed["ranks"]
    return {"amount": float(gpus * per_gpu[site["billing_unit"]] * Fraction(job["hours"])), "unit": site["billing_unit"]}
# %% where
def where(step, site):
    heavy = any([step["gpus"], step["cores"] > site["login_cores"], step["minutes"] > site["login_minutes"]])
    reach = {True: site["internet_compute"], False: True}[heavy]
    if step["internet"] > reach:
        raise ValueError("split this step: fetch on a login node, compute on a compute node")
    return ("login", "compute")[heavy]
