"""Starts the program without srun, so on the first node only.

fails: ranks as no-srun
fails: rendezvous as result-first
"""
# %% ranks
def rank_script(nodes: int, gpus: int, minutes: int, account: str) -> str:
    """A job of `nodes` × `gpus` ranks that srun starts; each runs `python train.py`."""
    return textwrap.dedent(f"""\
        #!/bin/bash
        #SBATCH --account={account}
        #SBATCH --time={minutes}
        #SBATCH --nodes={nodes}
        #SBATCH --ntasks-per-node={gpus}
        #SBATCH --gres=gpu:{gpus}
        export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
        export MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))
        export RANK=0 LOCAL_RANK=0 WORLD_SIZE=$SLURM_NTASKS
        python train.py
    """)
