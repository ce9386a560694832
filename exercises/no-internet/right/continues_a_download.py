"""Goes on with the half that an earlier run left beside its place.

"""
# %% stage
def stage_script(url: str, target: str, names: list[str]) -> str:
    """A bash script for the login node: the files `names` from the hub into the folder `target`."""
    return textwrap.dedent(f"""\
        cd $(mkdir -p {target}; echo {target}) || exit 1
        curl -fsS {url}/SHA256SUMS > .sums || exit 1
        for name in {' '.join(names)}; do
            grep " $name$" .sums > .sum-$name
            sha256sum --check --status .sum-$name 2>/dev/null && continue
            curl -fsS --continue-at - -o .part-$name {url}/$name || exit 1
            sed "s/ $name/ .part-$name/" .sum-$name | sha256sum --check --status || {{ rm .part-$name; exit 1; }}
            mv .part-$name $name
        done
    """)
