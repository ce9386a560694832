"""Meets on the last node, where rank 0 is not.

fails: rendezvous as not-rank-zeros-node
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
        export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | tail -n 1)
        export MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))
        srun bash -c 'export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS; exec python train.py'
    """)
