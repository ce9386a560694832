"""Binds all folders so that they can be written into.

fails: bound as read-only-missing
"""
# %% container
def container_line(image: str, command: list[str], reads: list[str], writes: list[str]) -> list[str] | str:
    """The line that runs `command` in the container: a list of words, or one text as for a shell."""
    words = ["singularity", "exec", "--nv", "--bind", ",".join([*reads, *writes])]
    return [*words, image, *command]
