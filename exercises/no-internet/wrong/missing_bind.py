"""Binds what it reads, and forgets what it writes.

fails: bound as missing-bind
"""
# %% container
def container_line(image: str, command: list[str], reads: list[str], writes: list[str]) -> list[str] | str:
    """The line that runs `command` in the container: a list of words, or one text as for a shell."""
    words = ["singularity", "exec", "--nv"]
    for folder in reads:
        words += ["--bind", f"{folder}:{folder}:ro"]
    return [*words, image, *command]
