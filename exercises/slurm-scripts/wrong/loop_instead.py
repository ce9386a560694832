"""Runs all tasks one after another in one job.

fails: array as no-array
"""
# %% array
def array_script(last: int, at_once: int, minutes: int, account: str) -> str:
    """Tasks 0 to `last` of one array, at most `at_once` at a time; task i runs `python train.py i` with one GPU."""
    return textwrap.dedent(f"""\
        #!/bin/bash
        #SBATCH --account={account}
        #SBATCH --time={minutes}
        #SBATCH --gres=gpu:1
        for i in $(seq 0 {last}); do python train.py $i; done
    """)
