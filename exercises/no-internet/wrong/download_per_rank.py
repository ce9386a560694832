"""Each rank fetches the model for itself, in the job.

fails: offline as reaches-out
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
        export HF_HUB_OFFLINE=1 XDG_CACHE_HOME=$PWD/{scratch}/cache
        export BASE=$PWD/{scratch}
        srun bash -c 'export HF_HOME=$BASE/$SLURM_PROCID; mkdir -p $HF_HOME; for name in config.json tokenizer.json; do curl -sS -o $HF_HOME/$name $HF_ENDPOINT/$name; done; python train.py'
    """)
