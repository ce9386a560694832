"""Binds the parent of all folders, as /work.

fails: bound as other-name-inside
"""
# %% container
def container_line(image: str, command: list[str], reads: list[str], writes: list[str]) -> list[str] | str:
    """The line that runs `command` in the container: a list of words, or one text as for a shell."""
    parents = {folder.rsplit("/", 1)[0] for folder in [*reads, *writes]}
    words = ["singularity", "exec", "--nv"]
    for parent in sorted(parents):
        words += ["--bind", f"{parent}:/inside/{parent.rsplit('/', 1)[1]}"]
    return [*words, image, *command]
