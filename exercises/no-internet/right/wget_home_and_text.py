"""wget and sha256sum --check in a folder of its own; HOME moved to scratch; the line as one text.

"""
# %% stage
def stage_script(url: str, target: str, names: list[str]) -> str:
    """A bash script for the login node: the files `names` from the hub into the folder `target`."""
    return textwrap.dedent(f"""\
        set -euo pipefail
        mkdir -p {target}/.incoming
        cd {target}/.incoming
        wget -q -O SHA256SUMS {url}/SHA256SUMS
        for name in {' '.join(names)}; do
            line=$(grep " $name$" SHA256SUMS)
            if (cd .. && sha256sum --check --status <<< "$line" 2>/dev/null); then continue; fi
            wget -q --tries=1 -O "$name" {url}/$name
            sha256sum --check --quiet <<< "$line"
            mv "$name" ..
        done
    """)
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
        export HF_HOME="$SLURM_SUBMIT_DIR/{target}" HOME="$SLURM_SUBMIT_DIR/{scratch}"
        export HF_HUB_OFFLINE=TRUE
        srun --export=ALL python train.py
    """)
# %% container
def container_line(image: str, command: list[str], reads: list[str], writes: list[str]) -> list[str] | str:
    """The line that runs `command` in the container: a list of words, or one text as for a shell."""
    binds = ",".join([f"{folder}:{folder}:ro" for folder in reads] + writes)
    return "singularity exec --nv -B " + shlex.quote(binds) + " " + shlex.quote(image) + " " + shlex.join(command)
