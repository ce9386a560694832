"""The batch's own workers, in a layer of one's choice: `python tests/attacks/worker.py LAYER FD`."""

import sys

from autograder import worker
from autograder.sandbox import host, warm

if __name__ == "__main__":
    layer = sys.argv.pop(1)
    warm.LADDER = host.LADDER = (layer,)  # type: ignore[assignment]
    worker.main()
