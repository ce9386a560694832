"""Knows of offline mode and of the cache, and does not say where the model is.

fails: offline as no-model
fails: once as result-first
"""
# %% job
def job_script(nodes: int, ranks: int, minutes: int, account: str, target: str, scratch: str) -> str:
    """A job script for sbatch: `nodes` × `ranks` ranks, all offline."""
    return textwrap.dedent(f"""\
        #!/bin/bash
        #SBATCH --account={account}
        #SBATCH --time={minutes}
        #SBATCH --nodes={nodes}
        #SBATCH --ntasks-per-node={ranks}
        #SBATCH --gres=gpu:{ranks}
        export HF_HUB_OFFLINE=1 XDG_CACHE_HOME=$PWD/{scratch}/cache
        srun python train.py
    """)
