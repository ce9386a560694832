"""Each rank copies the model to a place of its own first.

fails: once as copied-per-rank
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
        export HF_HUB_OFFLINE=1 XDG_CACHE_HOME=$PWD/{scratch}/cache FROM=$PWD/{target} BASE=$PWD/{scratch}
        srun bash -c 'export HF_HOME=$BASE/model-$SLURM_PROCID; cp -r $FROM $HF_HOME; exec python train.py'
    """)
