"""Short options, a port that Python found free, and the address as a number.
"""
# %% ranks
def rank_script(nodes: int, gpus: int, minutes: int, account: str) -> str:
    """A job of `nodes` × `gpus` ranks that srun starts; each runs `python train.py`."""
    return textwrap.dedent(f"""\
        #!/bin/bash
        #SBATCH -A {account}
        #SBATCH -t 00:{minutes}:00
        #SBATCH -N {nodes}
        #SBATCH -n {nodes * gpus} --ntasks-per-node={gpus}
        #SBATCH --gres=gpu:{gpus}
        export MASTER_ADDR=$(getent hosts $(hostname) | cut -d' ' -f1)
        export MASTER_PORT=$(python -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
        srun bash -c 'export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS; exec python train.py'
    """)
