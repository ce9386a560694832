"""Takes a file that is there for a whole one.

fails: restarted as half-taken-for-whole
"""
# %% stage
def stage_script(url: str, target: str, names: list[str]) -> str:
    """A bash script for the login node: the files `names` from the hub into the folder `target`."""
    return textwrap.dedent(f"""\
        set -e
        mkdir -p {target}
        cd {target}
        curl -fsS -o SHA256SUMS {url}/SHA256SUMS
        for name in {' '.join(names)}; do
            if [ -f "$name" ]; then continue; fi
            curl -fsS -o "$name.part" {url}/$name
            grep " $name$" SHA256SUMS | sed 's/$/.part/' | sha256sum --check --quiet
            mv "$name.part" "$name"
        done
    """)
