"""Errors whose text is meant for the person at the keyboard."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend: one sentence saying what is wrong, where, and what to do.

    The command line prints the sentence without a traceback and exits with status 2.
    """


class SandboxError(Exception):
    """The sandbox itself failed, or cannot do what is asked of it: never the learner's fault, and never a verdict."""
