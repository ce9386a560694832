"""Binds folders under short names, as one does with docker run -v.

fails: bound as other-name-inside
"""
# %% container
def container_line(image: str, command: list[str], reads: list[str], writes: list[str]) -> list[str] | str:
    """The line that runs `command` in the container: a list of words, or one text as for a shell."""
    words = ["singularity", "exec", "--nv"]
    for number, folder in enumerate(reads):
        words += ["--bind", f"{folder}:/data{number}:ro"]
    for number, folder in enumerate(writes):
        words += ["--bind", f"{folder}:/out{number}"]
    return [*words, image, *command]
