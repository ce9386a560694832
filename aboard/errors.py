"""Errors whose text is meant for the person at the keyboard."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend: one sentence saying what is wrong, where, and what to do.

    The command lines print the sentence without a traceback and exit with status 2.
    """
