"""`aboard`, the learner's command line. Each room has its commands in a module of its own, which imports what it needs
when a command runs, so that `--help` is there at once.
"""

from __future__ import annotations

import os
import sys

import typer

from aboard.cluster import commands as cluster
from aboard.errors import UserError
from aboard.jobs import commands as jobs
from aboard.sites import commands as sites

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="From one box of GPUs to a supercomputer: practise on this machine, then write the job for a real one.",
)  # fmt: skip
app.add_typer(cluster.app, name="cluster")
app.command()(jobs.job)
app.command()(jobs.translate)
app.add_typer(sites.app, name="sites")


def main() -> None:
    """Entry point: user errors are a sentence and status 2, an interrupt is status 130."""
    try:
        app(standalone_mode=True)
    except UserError as error:
        print(f"aboard: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("aboard: interrupted.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os._exit(141)


if __name__ == "__main__":
    main()
