"""Machines, one folder each: what they have, what they allow, how a job asks for it, and who says so.

site.py      the profile of one machine, read and checked
commands.py  `aboard sites`
NAME/        one machine: site.toml
"""
