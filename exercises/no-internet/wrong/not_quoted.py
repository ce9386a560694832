"""Joins the words with spaces, also those that have one inside.

fails: bound as not-quoted
"""
# %% container
def container_line(image: str, command: list[str], reads: list[str], writes: list[str]) -> list[str] | str:
    """The line that runs `command` in the container: a list of words, or one text as for a shell."""
    binds = [f"--bind {folder}:{folder}:ro" for folder in reads] + [f"--bind {folder}" for folder in writes]
    return f"singularity exec --nv {' '.join(binds)} {image} {' '.join(command)}"
