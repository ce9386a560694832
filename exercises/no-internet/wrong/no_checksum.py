"""Fetches well, and never looks at a checksum.

fails: staged as no-checksum
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
            if [ "$(sha256sum "$name" 2>/dev/null | cut -d' ' -f1)" = "$(grep " $name$" SHA256SUMS | cut -d' ' -f1)" ]; then continue; fi
            curl -fsS -o "$name.part" {url}/$name
            mv "$name.part" "$name"
        done
    """)
