"""Counts the tasks from 1.

fails: array as array-off-by-one
"""
# %% array
def array_script(last: int, at_once: int, minutes: int, account: str) -> str:
    """Tasks 0 to `last` of one array, at most `at_once` at a time; task i runs `python train.py i` with one GPU."""
    return textwrap.dedent(f"""\
        #!/bin/bash
        #SBATCH --account={account}
        #SBATCH --time={minutes}
        #SBATCH --gres=gpu:1
        #SBATCH --array=1-{last}%{at_once}
        python train.py $SLURM_ARRAY_TASK_ID
    """)
