"""Says that a file is damaged, goes on, and ends with status 0.

fails: staged as no-checksum
fails: restarted as never-tells
"""
# %% stage
def stage_script(url: str, target: str, names: list[str]) -> str:
    """A bash script for the login node: the files `names` from the hub into the folder `target`."""
    return textwrap.dedent(f"""\
        mkdir -p {target}
        cd {target}
        curl -fsS -o SHA256SUMS {url}/SHA256SUMS
        for name in {' '.join(names)}; do
            want=$(grep " $name$" SHA256SUMS | cut -d' ' -f1)
            if [ "$(sha256sum "$name" 2>/dev/null | cut -d' ' -f1)" = "$want" ]; then continue; fi
            curl -fsS -o "$name.part" {url}/$name
            if [ "$(sha256sum "$name.part" | cut -d' ' -f1)" = "$want" ]; then mv "$name.part" "$name"; else echo "$name is damaged"; fi
        done
        echo staged
    """)
