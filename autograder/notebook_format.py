"""`nbformat`, a second sooner: `from autograder.notebook_format import nbformat`, before anything else imports it.

jsonschema, which it checks notebooks with, builds a grammar of Internet addresses when it finds the package for that, and
no schema of a notebook asks about one.
"""

import sys

GRAMMAR = "rfc3987_syntax"

if "jsonschema" not in sys.modules and GRAMMAR not in sys.modules:
    sys.modules[GRAMMAR] = None  # type: ignore[assignment]  # as if it were not installed
    try:
        import jsonschema  # noqa: F401
    finally:
        del sys.modules[GRAMMAR]

import nbformat  # noqa: E402

__all__ = ["nbformat"]
