"""A Python program in the script; variables handed over by srun and by env; parents bound with their names.

"""
# %% stage
def stage_script(url: str, target: str, names: list[str]) -> str:
    """A bash script for the login node: the files `names` from the hub into the folder `target`."""
    return textwrap.dedent(f"""\
        mkdir -p {target}
        exec python - {url} {target} {' '.join(names)} <<'END'
        import hashlib, os, sys, urllib.request
        url, target, *names = sys.argv[1:]
        sums = dict(reversed(line.split()) for line in urllib.request.urlopen(url + "/SHA256SUMS").read().decode().splitlines())
        def whole(path, name):
            return os.path.isfile(path) and hashlib.sha256(open(path, "rb").read()).hexdigest() == sums[name]
        for name in names:
            path = os.path.join(target, name)
            if whole(path, name):
                continue
            if os.path.exists(path):
                os.remove(path)
            urllib.request.urlretrieve(url + "/" + name, path + ".part")
            if not whole(path + ".part", name):
                sys.exit(name + " is damaged")
            os.replace(path + ".part", path)
        END
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
        srun --export=ALL,HF_HOME=$PWD/{target},HF_HUB_OFFLINE=1 env XDG_CACHE_HOME=$PWD/{scratch} python train.py
    """)
# %% container
def container_line(image: str, command: list[str], reads: list[str], writes: list[str]) -> list[str] | str:
    """The line that runs `command` in the container: a list of words, or one text as for a shell."""
    words = ["apptainer", "exec", "--nv", "--cleanenv"]
    for folder in sorted({folder.rsplit("/", 1)[0] for folder in writes}):
        words.append(f"--bind={folder}")
    for folder in reads:
        words += ["--mount", f"type=bind,src={folder},dst={folder},ro"]
    return shlex.join([*words, image, *command])
