"""Starts torchrun in a task for each GPU.

fails: torchrun as tasks-times-gpus
"""
# %% torchrun
def torchrun_script(nodes: int, gpus: int, minutes: int, account: str) -> str:
    """The same ranks, started by one `torchrun … train.py` on each node."""
    return textwrap.dedent(f"""\
        #!/bin/bash
        #SBATCH --account={account}
        #SBATCH --time={minutes}
        #SBATCH --nodes={nodes}
        #SBATCH --ntasks-per-node={gpus}
        #SBATCH --gres=gpu:{gpus}
        head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
        srun torchrun --nnodes={nodes} --nproc-per-node={gpus} --rdzv-backend=c10d --rdzv-id=$SLURM_JOB_ID \\
            --rdzv-endpoint=$head:$((20000 + SLURM_JOB_ID % 10000)) train.py
    """)
