"""Starts the program in the script, on the first node.

fails: offline as no-srun
fails: once as result-first
"""
# %% job
def job_script(nodes: int, ranks: int, minutes: int, account: str, target: str, scratch: str) -> str:
    """A job script for sbatch: `nodes` × `ranks` ranks, all offline."""
    return textwrap.dedent(f"""\
        #!/bin/bash
        #SBATCH --account={account}
        #SBATCH --time={minutes}
        #SBATCH --nodes={nodes}
        #SBATCH --ntasks-per-node={ranks}
        #SBATCH --gres=gpu:{ranks}
        export HF_HOME=$PWD/{target} HF_HUB_OFFLINE=1 XDG_CACHE_HOME=$PWD/{scratch}/cache
        python train.py
    """)
