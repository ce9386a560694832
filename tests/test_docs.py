"""What the pages say is so: commands, options, make targets, links, fields, and the author's example."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from dataclasses import fields
from pathlib import Path

import click
import pytest
import typer
import yaml
from packaging.requirements import Requirement

from autograder.check import check_namespace
from autograder.cli import app
from autograder.exercise import Limits, load_exercise
from autograder.verdict import CheckResult, Result

ROOT = Path(__file__).resolve().parents[1]
BOOK = sorted((ROOT / "book").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *BOOK]
LESSONS = sorted((ROOT / "notebooks").glob("*/*/lesson.md"))
COMMANDS: dict[str, click.Command] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
REFERENCE = (ROOT / "book/reference.md").read_text()


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def code(text: str) -> list[str]:
    """Lines of fenced code blocks, and inline code: where commands are written."""
    blocks = re.findall(r"^(`{3,})[^\n]*\n(.*?)^\1", text, re.MULTILINE | re.DOTALL)
    lines = [line for _, block in blocks for line in block.splitlines()]
    return lines + re.findall(
        r"`([^`\n]+)`", re.sub(r"^(`{3,}).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)
    )


@pytest.fixture(params=PAGES + LESSONS, ids=name)
def page(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_links_lead_somewhere(page):
    text = re.sub(r"^(`{3,}).*?^\1", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page}: the link {target} leads nowhere"


def test_commands_and_options_exist(page):
    for line in code(page.read_text()):
        for said in re.findall(r"\bautograder ((?:[a-z]+)(?: [^|;&#`]*)?)", line):
            command, *words = said.split()
            if (
                line.strip().startswith(("from ", "import ", "│", "├", "└"))
                or f"autograder {command}" not in line
            ):
                continue
            assert command in COMMANDS, f"{page}: there is no `autograder {command}` ({line.strip()})"
            known = {option for p in COMMANDS[command].params for option in p.opts} | {"--help"}
            for word in words:
                option = word.strip("[]…").split("=")[0]
                if option.startswith("--"):
                    assert option in known, f"{page}: `autograder {command}` has no {option} ({line.strip()})"


def aboard_commands() -> dict[str, click.Command]:
    """Every command of `aboard`, by its words: "cluster up", "job"."""
    from aboard.cli import app as aboard

    def walk(command: click.Command, words: str) -> dict[str, click.Command]:
        below = getattr(command, "commands", {})
        here = {} if below and not getattr(command, "invoke_without_command", False) else {words: command}
        return here | {
            k: v for name, one in below.items() for k, v in walk(one, f"{words} {name}".strip()).items()
        }

    return walk(typer.main.get_command(aboard), "")


def test_commands_of_aboard_and_their_options_exist(page):
    commands = aboard_commands()
    for line in code(page.read_text()):
        for said in re.findall(r"(?:^|\s)aboard ((?:cluster|sites|job|translate)\b[^|;&#`]*)", line):
            words = said.split()
            command = next((c for n in (2, 1) if (c := commands.get(" ".join(words[:n])))), None)
            assert command or words == ["cluster"], f"{page}: there is no `aboard {said.strip()}`"
            known = {option for p in command.params for option in p.opts} | {"--help"} if command else set()
            for word in words if words[:2] != ["cluster", "exec"] else []:
                if word.startswith("--"):
                    assert word.split("=")[0] in known, f"{page}: `aboard {said.strip()}` has no {word}"


def test_every_command_of_aboard_is_in_the_reference():
    told = REFERENCE + (ROOT / "book/miniature.md").read_text()
    for words, command in aboard_commands().items():
        first, _, last = words.rpartition(" ")
        assert f"aboard {words}" in told or f"`{last}`" in told, f"no page names `aboard {words}`"
        for option in (o for p in command.params for o in p.opts if o.startswith("--")):
            assert option in told, f"neither page names {option} of `aboard {words}`"


def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in code(page.read_text()):
        if found := re.match(r"\s*make((?: [a-z-]+)+)(?= |$)", line.split("#")[0].split("&&")[0].rstrip()):
            for target in found[1].split():
                assert target in targets, f"{page}: there is no `make {target}`"


def test_nothing_is_left_to_do(page):
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", page.read_text()), f"{page} says TODO"


def test_every_command_is_in_the_reference():
    for command, click_command in COMMANDS.items():
        assert f"autograder {command}" in REFERENCE, f"book/reference.md does not name `autograder {command}`"
        told = REFERENCE + (ROOT / "book/authors.md").read_text()
        for option in (o for p in click_command.params for o in p.opts if o.startswith("--")):
            assert option in told, f"book/reference.md does not name {option} of `autograder {command}`"


def test_every_make_target_is_explained():
    targets = re.findall(r"^([a-z-]+):.*?##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    shown = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in targets:
        assert f"make {target} " in shown
        assert f"`make {target}`" in REFERENCE or target == "help", (
            f"book/reference.md does not name `make {target}`"
        )


@pytest.mark.parametrize("model", [Result, CheckResult])
def test_every_field_of_a_result_is_in_the_reference(model):
    for field, info in model.model_fields.items():
        assert f"`{info.alias or field}`" in REFERENCE, f"book/reference.md does not explain `{field}`"


def test_the_guide_tells_the_limits():
    guide = (ROOT / "book/authors.md").read_text()
    for limit in fields(Limits):
        assert re.search(rf"^\| `{limit.name}` \|.*\| {limit.default:g} \|$", guide, re.MULTILINE), limit.name


# --- the exercise that the author's guide shows ------------------------------------------------------


@pytest.fixture
def example(tmp_path):
    """The guide's exercise as a folder: its TOML, statement, judge and wrong answer, as printed."""
    guide = (ROOT / "book/authors.md").read_text()

    def block(language: str, start: str) -> str:
        found = re.search(
            rf"^(`{{3,}}){language}\n({re.escape(start)}.*?)^\1\n", guide, re.MULTILINE | re.DOTALL
        )
        assert found, f"book/authors.md shows no {language} block that begins with {start!r}"
        return found[2]

    folder = tmp_path / "tree-broadcast"
    (folder / "wrong").mkdir(parents=True)
    (folder / "exercise.toml").write_text(block("toml", "id ="))
    (folder / "judge.py").write_text(block("python", '"""Judge of'))
    (folder / "wrong/root.py").write_text(block("python", '"""Rank 0 sends'))
    given = "```{code-cell} ipython3\nimport torch\nimport torch.distributed as dist\n```\n"
    head = "---\nkernelspec:\n  display_name: Python 3\n  language: python\n  name: python3\n---\n# Title\n\n"
    (folder / "exercise.md").write_text(
        head + given + "\n" + block("md", "```{code-cell} ipython3\n:answer: tree")
    )
    return load_exercise(folder)


def judged(exercise, answers: dict[str, str]) -> dict[str, str | None]:
    """Check id → diagnosis of the checks that fail."""
    import torch
    import torch.distributed as dist

    namespace = {"torch": torch, "dist": dist}
    for source in answers.values():
        exec(compile(source, "answer", "exec"), namespace)
    result = check_namespace(exercise, namespace)
    return {check.id: check.diagnosis for check in result.checks if check.status != "pass"}


def test_the_guides_exercise_works(example):
    assert judged(example, example.solution()) == {}
    (wrong,) = example.variants("wrong")
    assert wrong.fails and judged(example, wrong.answers) == wrong.fails


# --- the house ---------------------------------------------------------------------------------------


def test_the_lock_pins_what_is_asked_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [
        line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")
    ]
    pins = {}
    for line in lines:
        found = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][A-Za-z0-9.!]*)", line)
        assert found, f"requirements.lock: {line!r} is no plain pin"
        pins[re.sub(r"[-_.]+", "-", found[1]).lower()] = found[2]
    wanted = [
        *project["dependencies"],
        *(r for extra in project["optional-dependencies"].values() for r in extra),
    ]
    for requirement in map(Requirement, wanted):
        key = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert key in pins, f"requirements.lock lacks {requirement.name}; run `make lock`"
        assert requirement.specifier.contains(pins[key], prereleases=True), (
            f"{requirement} is pinned to {pins[key]}"
        )


def test_the_book_holds_every_lesson_and_no_solution():
    toc = yaml.safe_load((ROOT / "book/_toc.yml").read_text())
    files = [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]
    for file in files:
        assert (ROOT / f"{file}.md").is_file(), f"book/_toc.yml: there is no {file}.md"
        assert not file.startswith("exercises/"), f"book/_toc.yml: {file} would print the solution"
    for lesson in [*LESSONS, *BOOK]:
        assert name(lesson).removesuffix(".md") in files, f"book/_toc.yml lacks {name(lesson)}"


def prepare_system(folder: Path, *programs: str) -> subprocess.CompletedProcess[str]:
    """What tools/system.sh says to somebody who has these programs, those of /sbin, and may install nothing."""
    for program in ("bash", "uname", "id", *programs):
        (folder / program).symlink_to(
            next(p for d in ("/bin", "/usr/bin") if (p := Path(d, program)).exists())
        )
    line = ["/bin/bash", str(ROOT / "tools/system.sh")]
    return subprocess.run(line, env={"PATH": str(folder)}, capture_output=True, text=True)


def test_without_bubblewrap_grading_works_where_namespaces_do(tmp_path):
    ran = prepare_system(tmp_path, "unshare", "mount")
    assert ran.returncode == 0 and ran.stdout == ""
    assert "apt-get install bubblewrap" in ran.stderr and "grading works without it" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_without_bubblewrap_one_sentence_says_what_works(tmp_path):
    ran = prepare_system(tmp_path)
    assert ran.returncode == 1 and ran.stdout == ""
    assert "apt-get install" in ran.stderr and "bubblewrap" in ran.stderr and "autograder check" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_without_a_python_one_sentence_says_so(tmp_path):
    house = tmp_path / "a house" / "tools"
    house.mkdir(parents=True)
    (house / "venv.sh").write_bytes((ROOT / "tools/venv.sh").read_bytes())
    (tmp_path / "dirname").symlink_to("/usr/bin/dirname")
    ran = subprocess.run(
        ["/bin/bash", house / "venv.sh"], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert ran.returncode == 1 and "No Python 3.11" in ran.stderr and len(ran.stderr.splitlines()) == 1


def test_scripts_are_executable():
    for script in [*(ROOT / "tools").glob("*.sh"), ROOT / ".ci/run"]:
        assert os.access(script, os.X_OK), f"{name(script)} is not executable"
