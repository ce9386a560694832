"""Lets all tasks of the array run at the same time.

fails: array as no-limit
"""
# %% array
def array_script(last: int, at_once: int, minutes: int, account: str) -> str:
    """Tasks 0 to `last` of one array, at most `at_once` at a time; task i runs `python train.py i` with one GPU."""
    return textwrap.dedent(f"""\
        #!/bin/bash
        #SBATCH --account={account}
        #SBATCH --time={minutes}
        #SBATCH --gres=gpu:1
        #SBATCH --array=0-{last}
        python train.py $SLURM_ARRAY_TASK_ID
    """)
