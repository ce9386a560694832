"""The batch's own worker, in a layer of one's choice: `python tests/attacks/worker.py LAYER`."""

import functools
import sys

from autograder import worker
from autograder.sandbox import host

if __name__ == "__main__":
    host.Sandbox = functools.partial(host.Sandbox, layer=sys.argv[1])  # type: ignore[misc, assignment]
    worker.main()
