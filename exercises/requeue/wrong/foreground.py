"""Runs srun in the foreground, so that the trap has to wait for it.

fails: requeued as trap-too-late
"""
# %% script
def job_script(nodes: int, ranks: int, minutes: int, account: str) -> str:
    """A job of `nodes` × `ranks` ranks that saves and requeues itself when it gets USR1."""
    return textwrap.dedent(f"""\
        #!/bin/bash
        #SBATCH --account={account}
        #SBATCH --time={minutes}
        #SBATCH --nodes={nodes}
        #SBATCH --ntasks-per-node={ranks}
        #SBATCH --gres=gpu:{ranks}
        #SBATCH --requeue
        #SBATCH --open-mode=append
        #SBATCH --signal=B:USR1@120
        export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
        export MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))
        again() {{
            scancel --signal=TERM $SLURM_JOB_ID
            wait $ranks
            scontrol requeue $SLURM_JOB_ID
        }}
        trap again USR1
        srun bash -c 'export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS; exec python train.py'
    """)
