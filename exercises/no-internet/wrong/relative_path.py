"""Hands the paths on as they came.

fails: offline as relative-path
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
        export HF_HOME={target} HF_HUB_OFFLINE=1 XDG_CACHE_HOME={scratch}/cache
        srun python train.py
    """)
