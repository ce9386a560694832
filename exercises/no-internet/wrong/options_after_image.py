"""Writes the options behind the image.

fails: bound as option-after-image
"""
# %% container
def container_line(image: str, command: list[str], reads: list[str], writes: list[str]) -> list[str] | str:
    """The line that runs `command` in the container: a list of words, or one text as for a shell."""
    words = ["singularity", "exec", image, "--nv"]
    for folder in reads:
        words += ["--bind", f"{folder}:{folder}:ro"]
    for folder in writes:
        words += ["--bind", folder]
    return [*words, *command]
