"""Gives the program the number of the array, not that of its task.

fails: array as wrong-argument
"""
# %% array
def array_script(last: int, at_once: int, minutes: int, account: str) -> str:
    """Tasks 0 to `last` of one array, at most `at_once` at a time; task i runs `python train.py i` with one GPU."""
    return textwrap.dedent(f"""\
        #!/bin/bash
        #SBATCH --account={account}
        #SBATCH --time={minutes}
        #SBATCH --gres=gpu:1
        #SBATCH --array=0-{last}%{at_once}
        python train.py $SLURM_ARRAY_JOB_ID
    """)
