"""Hands the variables over as an option of sbatch, with absolute paths from realpath.

"""
# %% job
def job_script(nodes: int, ranks: int, minutes: int, account: str, target: str, scratch: str) -> str:
    """A job script for sbatch: `nodes` × `ranks` ranks, all offline."""
    return textwrap.dedent(f"""\
        #!/bin/bash
        #SBATCH -A {account} -t {minutes} -N {nodes}
        #SBATCH -n {nodes * ranks} --ntasks-per-node={ranks} --gpus-per-node={ranks}
        #SBATCH --export=ALL,HF_HUB_OFFLINE=1
        set -eu
        HF_HOME=$(realpath {target}) XDG_CACHE_HOME=$(realpath {scratch}) srun python train.py
    """)
