"""Gives torchrun the number of its node, instead of letting nodes find theirs.
"""
# %% torchrun
def torchrun_script(nodes: int, gpus: int, minutes: int, account: str) -> str:
    """The same ranks, started by one `torchrun … train.py` on each node."""
    return textwrap.dedent(f"""\
        #!/bin/bash
        #SBATCH --account={account}
        #SBATCH --time={minutes}
        #SBATCH --nodes={nodes}
        #SBATCH --ntasks-per-node=1
        #SBATCH --gres=gpu:{gpus}
        head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
        export head
        srun bash -c 'torchrun --nnodes=$SLURM_NNODES --node-rank=$SLURM_NODEID --nproc-per-node={gpus} --master-addr=$head --master-port=$((20000 + SLURM_JOB_ID % 10000)) train.py'
    """)
