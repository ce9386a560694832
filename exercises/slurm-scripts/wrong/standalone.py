"""Starts torchrun on each node as on a single box.

fails: torchrun as separate-worlds
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
        srun torchrun --standalone --nproc-per-node={gpus} train.py
    """)
