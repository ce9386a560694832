"""Errors whose text is meant for the person at the keyboard."""

from __future__ import annotations

from aboard.errors import UserError

__all__ = ["SandboxError", "UserError"]


class SandboxError(Exception):
    """The sandbox itself failed, or cannot do what is asked of it: never the learner's fault, and never a verdict."""
