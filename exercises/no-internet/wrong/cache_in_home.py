"""Says where the model is, and leaves the cache where it always was.

fails: offline as cache-in-home
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
        export HF_HOME=$PWD/{target} HF_HUB_OFFLINE=1
        srun python train.py
    """)
