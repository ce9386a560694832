"""The ranks are told by srun, which hands USR2 on, and the script waits in a loop.
"""
# %% stop
class Stop:
    """Whether to stop now: True on every rank after the same step, once any rank has got SIGTERM."""

    def __init__(self) -> None:
        self.told = False
        signal.signal(signal.SIGTERM, self.hear)
        signal.signal(signal.SIGUSR2, self.hear)

    def __call__(self) -> bool:
        flag = torch.tensor(float(self.told))
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return flag.item() > 0

    def hear(self, signum, frame) -> None:
        self.told = True
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
            kill -USR2 $ranks
            while kill -0 $ranks 2>/dev/null; do wait $ranks; done
            scontrol requeue $SLURM_JOB_ID
        }}
        trap again SIGUSR1
        srun bash -c 'export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS; exec python train.py' &
        ranks=$!
        wait $ranks
    """)
