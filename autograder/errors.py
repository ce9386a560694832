"""Errors whose text is meant for the person at the keyboard."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from aboard.errors import UserError

__all__ = ["SandboxError", "UserError", "did_you_mean", "read_text"]


class SandboxError(Exception):
    """The sandbox itself failed, or cannot do what is asked of it: never the learner's fault, and never a verdict."""


def read_text(path: Path) -> str:
    """The text of an author's file. UserError when there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the names close to it, or those there are."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"; did you mean {' or '.join(close)}"
    return f"; known: {', '.join(names)}" if names else ""
