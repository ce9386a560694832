"""Points to the files, and does not say that there is no hub.

fails: offline as asks-the-hub
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
        export HF_HOME=$PWD/{target} XDG_CACHE_HOME=$PWD/{scratch}/cache
        srun python train.py
    """)
