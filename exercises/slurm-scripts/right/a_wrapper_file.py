"""Writes the lines of a rank into a file of their own, and asks for GPUs per node.
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
        #SBATCH --gpus-per-node={gpus}
        export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
        export MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))
        cat > rank-$SLURM_JOB_ID.sh <<'END'
        export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$((SLURM_NNODES * SLURM_NTASKS_PER_NODE))
        python train.py
        END
        srun bash rank-$SLURM_JOB_ID.sh
    """)
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
        srun --ntasks-per-node=1 python -m torch.distributed.run --nnodes=$SLURM_NNODES --nproc-per-node={gpus} --rdzv-backend=c10d --rdzv-id=$SLURM_JOB_ID \\
            --rdzv-endpoint=$head:$((20000 + SLURM_JOB_ID % 10000)) train.py
    """)
# %% array
def array_script(last: int, at_once: int, minutes: int, account: str) -> str:
    """Tasks 0 to `last` of one array, at most `at_once` at a time; task i runs `python train.py i` with one GPU."""
    return textwrap.dedent(f"""\
        #!/bin/bash
        #SBATCH --account={account}
        #SBATCH --time={minutes}
        #SBATCH --gpus=1
        #SBATCH --array=0-{last}%{at_once}
        python train.py $SLURM_ARRAY_TASK_ID
    """)
