"""`aboard sites`: the machines, their facts and who says so."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

app = typer.Typer(help="The machines: what they have, what they allow, and who says so.")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
SiteArgument = Annotated[str, typer.Argument(help="Id of a site, such as leonardo.")]


@app.callback(invoke_without_command=True)
def overview(context: typer.Context, json: JsonOption = False) -> None:
    """List the machines."""
    if context.invoked_subcommand is not None:
        return
    from aboard.sites.show import overview
    from aboard.sites.site import load, names

    sites = [load(name) for name in names()]
    if json:
        import json as _json

        print(
            _json.dumps([site.model_dump(exclude_none=True) for site in sites], indent=1, ensure_ascii=False)
        )
        return
    print(overview(sites))
    print("\n? is not known. `aboard sites show SITE` has the rest, with sources and traps.")


@app.command()
def show(site: SiteArgument, json: JsonOption = False) -> None:
    """All facts about one machine, each with its source, and the traps."""
    from aboard.sites.show import as_text
    from aboard.sites.site import load

    found = load(site)
    print(found.model_dump_json(indent=1, exclude_none=True) if json else as_text(found))


@app.command()
def verify(
    site: SiteArgument,
    list_only: Annotated[
        bool, typer.Option("--list", help="Only print the commands, and what each one is for.")
    ] = False,
) -> None:
    """On the machine itself: compare what Slurm says there with the profile. Exit 1 when something differs."""
    from aboard.sites.site import load
    from aboard.sites.verify import CHECKLIST, ask, compare, table

    found = load(site)
    if list_only:
        print(CHECKLIST.format(name=found.name))
        return
    findings = compare(found, ask())
    print(table(findings))
    differing = [one for one in findings if one.verdict == "differs"]
    if differing:
        print(
            f"\n{len(differing)} of {len(findings)} differ. Mend aboard/sites/{found.id}/site.toml, and name the command as source."
        )
        sys.exit(1)
