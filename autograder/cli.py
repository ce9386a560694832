"""The command line. Every command imports what it needs when it runs, so that `--help` is there at once."""

from __future__ import annotations

import json as _json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from autograder.errors import UserError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Release exercises, check your own answers, grade other people's in a sandbox.",
)  # fmt: skip

CourseOption = Annotated[
    Path | None,
    typer.Option("--course", help="Folder of the course [default: the one around you, else ours]."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.command()
def release(
    exercises: Annotated[
        list[str] | None, typer.Argument(help="Ids of exercises; all when none is given.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The learner's workspace.")] = Path("workspace"),
    course: CourseOption = None,
) -> None:
    """Make a learner's workspace: lessons and exercises as notebooks, ready for JupyterLab."""
    from autograder.exercise import Course
    from autograder.release import release as make

    released = make(Course.find(course), exercises or None, out)
    console = _console()
    console.print(
        f"{len(released.written)} files written to {out}, {len(released.unchanged)} unchanged.", markup=False
    )
    for path in released.kept:
        console.print(f"kept as it is, because it was edited: {path}", markup=False)
    console.print(f"Open {out / 'README.md'} first.", markup=False)


@app.command()
def check(
    notebook: Annotated[Path, typer.Argument(help="Your exercise notebook.")],
    json: JsonOption = False,
    course: CourseOption = None,
) -> None:
    """Feedback on your own notebook, on fresh draws; runs your code here, without a sandbox."""
    from autograder.check import check_notebook
    from autograder.exercise import Course

    result = check_notebook(notebook, Course(course) if course else None)
    if json:
        print(result.model_dump_json(by_alias=True, indent=1))
        return
    from autograder.feedback import as_text

    _console().print(as_text(result))


@app.command()
def grade(
    submissions: Annotated[Path, typer.Argument(help="Folder with one folder per learner.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")],
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Workers at a time [default: one per core].")
    ] = None,
    seed: Annotated[
        str | None, typer.Option("--seed", help="Seed of the draws [default: a secret one].")
    ] = None,
    engine: Annotated[
        str, typer.Option("--engine", help="fork (fast) or kernel (stock papermill).")
    ] = "fork",
    executor: Annotated[str, typer.Option("--executor", help="Where workers run: local.")] = "local",
    force: Annotated[bool, typer.Option("--force", help="Grade again what is already graded.")] = False,
    course: CourseOption = None,
) -> None:
    """Grade a cohort in the sandbox. Run it again to go on where it was interrupted."""
    from autograder.exercise import Course
    from autograder.grade_command import grade_cohort

    if engine not in ("fork", "kernel"):
        raise UserError(f"--engine {engine!r}: choose fork or kernel.")
    if executor != "local":
        raise UserError(f"--executor {executor!r}: only local is available in this version.")
    grade_cohort(
        Course.find(course), submissions, out, jobs or os.cpu_count() or 1, seed, engine, force, _console()
    )


@app.command()
def lint(
    exercises: Annotated[
        list[str] | None, typer.Argument(help="Ids of exercises; all when none is given.")
    ] = None,
    json: JsonOption = False,
    engine: Annotated[str, typer.Option("--engine", help="fork or kernel.")] = "fork",
    seed: Annotated[
        str | None, typer.Option("--seed", help="Seed of the draws [default: a fresh one].")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", min=1, help="Answers tried at a time [default: one per core; with --page, one in all]."
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option("--page", help="Bring this table up to date with what was found (Markdown)."),
    ] = None,
    course: CourseOption = None,
) -> None:
    """Test the curriculum itself: solution 100 %, empty 0 %, wrong answers caught and named, right ones accepted."""
    from autograder.exercise import Course
    from autograder.lint_command import lint_course

    at_a_time = jobs or (1 if page else os.cpu_count() or 1)  # the page tells how long a solution takes
    reports = lint_course(
        Course.find(course), exercises or None, engine, seed, at_a_time, None if json else _console()
    )
    if json:
        print(_json.dumps([r.as_data() for r in reports], indent=1))
    if page:
        from autograder.lint_page import bring_up_to_date

        bring_up_to_date(page, Course.find(course), reports)
    if not all(r.ok for r in reports):
        raise typer.Exit(1)


@app.command()
def doctor(json: JsonOption = False) -> None:
    """Say what is here, what is missing, and how to get it."""
    from autograder.doctor import examine

    findings = examine()
    if json:
        print(_json.dumps([f.as_data() for f in findings], indent=1))
    else:
        console = _console()
        for finding in findings:
            console.print(
                f"{'✓' if finding.ok else '–' if finding.optional else '✗'} {finding.name}: {finding.detail}",
                markup=False,
            )
            if not finding.ok:
                console.print(f"    needed for {finding.needed_for}. {finding.get_it}", markup=False)
    if not all(f.ok or f.optional for f in findings):
        raise typer.Exit(1)


@app.command()
def new(
    kind: Annotated[str, typer.Argument(help="lesson, exercise or site.")],
    name: Annotated[str, typer.Argument(help="Its name; for a lesson MODULE/LESSON.")],
    course: CourseOption = None,
) -> None:
    """Start a lesson, an exercise or a site from a working example."""
    from autograder.exercise import Course
    from autograder.scaffold import new as make

    if kind not in ("lesson", "exercise", "site"):
        raise UserError(f"{kind!r}: choose lesson, exercise or site.")
    console = _console()
    for path in make(kind, name, Course.find(course)):  # type: ignore[arg-type]
        console.print(str(path), markup=False, soft_wrap=True)
    console.print({
        "exercise": f"Next: autograder lint {name}",
        "lesson": "Next: write it, add it to book/_toc.yml, then make book",
        "site": f"Next: aboard sites show {name}",
    }[kind], markup=False)  # fmt: skip


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False)


def main() -> None:
    """Entry point: user errors are a sentence and status 2, an interrupt is status 130."""
    try:
        app(standalone_mode=True)
    except UserError as error:
        print(f"autograder: {error}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != 130:
            raise
        # typer ends an interrupted command with 130, and without a word.
        print("\nautograder: interrupted; run the same command to go on.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os._exit(141)


if __name__ == "__main__":
    main()
