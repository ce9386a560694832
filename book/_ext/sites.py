"""Sphinx extension: a page for each machine, made from its profile while the book is built.

book/sites/NAME.md holds a title and what a person wrote; the facts, their sources, the limits and the traps are added from
aboard/sites/NAME/site.toml, and book/sites/index.md gets the table of all machines. So no page can differ from its profile.
"""

from __future__ import annotations

import re

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from aboard.sites import show
from aboard.sites.site import Site, load, names
from aboard.table import Table

PAGES = "book/sites/"
OPTION = re.compile(r"(--[a-z][\w-]*(?:=[\w:@<>.-]*\w)?)")  # as code, or a typographer's dash would begin it
MARKUP = re.compile(r"[\\|<*_${`]")


def add_facts(app: Sphinx, page: str, source: list[str]) -> None:
    """Append to the page's text what is made from profiles."""
    if page == f"{PAGES}index":
        source[0] += "\n" + all_machines([load(name) for name in names()])
    elif page.startswith(PAGES):
        source[0] += "\n" + one_machine(load(page.removeprefix(PAGES)))


def read_again(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> list[str]:
    """Pages that Sphinx must not take from its cache: their own text stays the same when a profile changes."""
    return [page for page in env.found_docs if page.startswith(PAGES)]


def all_machines(sites: list[Site]) -> str:
    """Markdown: one line for each machine, which leads to its page."""
    table = show.overview(sites)
    linked = [[f"[{row[0]}]({row[0]}.md)", *row[1:]] for row in table.rows]
    return markdown(Table(table.columns, linked))


def one_machine(site: Site) -> str:
    """Markdown: everything that a profile holds."""
    parts = []
    if site.planned():
        parts.append(
            f":::{{note}}\n**Planned**: {site.status_note}. What follows is announced, not measured.\n:::"
        )
    if site.traps:
        parts.append("## Traps")
        parts += [
            f":::{{warning}}\n{_escape(t.text)}\n\n*Source: {_source(t.source)}*\n:::" for t in site.traps
        ]
    if site.partitions:
        parts += ["## Limits", markdown(_escaped(show.limits(site.partitions)))]
        parts.append(
            f"*Source: {_source(site.source('partitions'))}*. A job takes the first row that it fits."
        )
    if site.request:
        parts.append("## What a job says")
        asks = {"gpus": f"`--{site.request.gpus}`", "cores_per_gpu": str(site.request.cores_per_gpu)}
        rows = [["how GPUs are asked for", asks["gpus"], _source(site.source("request"))]]
        rows.append(["cores that go with a GPU", asks["cores_per_gpu"], _source(site.source("request"))])
        if site.request.account:
            rows.append(["what an account looks like", f"`{site.request.account}`", "form only"])
        rows += [
            ["`" + x.line.replace("|", "\\|") + "`", _escape(x.why), _source(x.source)]
            for x in site.request.lines
        ]
        parts.append(markdown(Table(["what", "value or reason", "source"], rows)))
    if site.storage:
        rows = [
            [s.name, f"`{s.path}`" if s.path else "?", s.quota or "?", s.inodes or "?", s.retention or "?"]
            for s in site.storage
        ]
        parts += ["## Files", markdown(_escaped(Table(["name", "path", "quota", "files", "kept for"], rows)))]
        parts.append(f"*Source: {_source(site.source('storage'))}*")
    parts.append("## Facts")
    for group, facts in show.facts(site).items():
        rows = [[name, _escape(value), _source(source)] for name, value, source in facts]
        parts += [f"### {group}", markdown(Table(["fact", "value", "source"], rows))]
    parts += [
        "## Not known",
        f"Nobody has found: {', '.join(show.unknown(site))}. Ask the centre before you count on any of it.",
    ]
    return "\n\n".join(parts) + "\n"


def markdown(table: Table) -> str:
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _escaped(table: Table) -> Table:
    return Table(table.columns, [[_escape(cell) for cell in row] for row in table.rows])


def _escape(text: str) -> str:
    """For a cell: options as code, and nothing that ends a cell or that Markdown takes for markup."""
    parts = OPTION.split(text)
    return "".join(f"`{part}`" if i % 2 else MARKUP.sub(r"\\\g<0>", part) for i, part in enumerate(parts))


def _source(source: str) -> str:
    words = _escape(source)
    return words.replace("unverified", "**unverified**") if source.startswith("unverified") else words


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", add_facts)
    app.connect("env-get-outdated", read_again)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
