"""What a lesson promises its reader, read from its text: the parts in their order, a guess that is kept, pictures in words,
terms that lead to the glossary, numbers that the code knows.

That a lesson runs, and how long it takes, is in test_book.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
LESSONS = sorted((ROOT / "notebooks").glob("m[23]-*/*/lesson.md"))
GLOSSARY = (ROOT / "book/reference.md").read_text().partition(":::{glossary}\n")[2].partition("\n:::")[0]
TERMS = re.findall(r"^(\S.*)$", GLOSSARY, re.MULTILINE)
EVERYDAY = {
    "buffer",
    "launch",
    "seed",
    "unit",
}  # also words of ordinary English: linked where the term is meant
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(?:---\n(.*?)^---\n)?(.*?)^```$", re.MULTILINE | re.DOTALL)
PARTS = [
    r"\*\*Goal\.\*\*", r"\*\*Needs\.\*\*", "## The cloud habit that breaks here", "## The idea",
    "## (Thirty|Forty) lines that run", "## Predict", "## Measure", "## Where it stops working",
    "## Exercise", "## (Gallery of wrong answers|What wrong answers look like from outside)", "## Solution",
    "## On your machine", "## (What to r|R)ead next",
]  # fmt: skip


@pytest.fixture(params=LESSONS, ids=lambda path: path.parent.name)
def lesson(request: pytest.FixtureRequest) -> str:
    return request.param.read_text()


def cells(lesson: str) -> list[tuple[dict, str]]:
    """(options, code) of each code cell."""
    return [(yaml.safe_load(head) or {} if head else {}, code) for head, code in CELL.findall(lesson)]


def alternatives(lesson: str) -> list[str]:
    return [options["mystnb"]["image"]["alt"] for options, _ in cells(lesson) if options]


def prose(lesson: str) -> str:
    """What a reader reads, up to the sources: no code, no formulas, no addresses."""
    text = re.sub(r"\A---\n.*?\n---\n", "", lesson, flags=re.DOTALL)
    text = re.split(r"^## (?:What to r|R)ead next", text, flags=re.MULTILINE)[0]
    text = CELL.sub("", text)
    text = re.sub(r"^```bash\n.*?^```$|<!--.*?-->|\$\$.*?\$\$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"(?<!\{term\})`[^`\n]+`|\$[^$\n]+\$|\]\([^)]*\)|^#.*$", " ", text, flags=re.MULTILINE)
    return text


def test_the_parts_stand_in_their_order(lesson):
    places = []
    for part in PARTS:
        found = re.search(rf"^(?:{part})", lesson, re.MULTILINE)
        assert found, f"no part begins with {part}"
        places.append(found.start())
    # A program may run before the picture of its idea is complete; everything else has one place.
    assert places == sorted(places), [PARTS[i] for i in range(1, len(places)) if places[i] < places[i - 1]]


def test_the_readers_guess_is_kept_and_its_error_shown(lesson):
    before, _, after = lesson.partition("## Predict")
    prediction, _, measurement = after.partition("## Measure")
    guesses = [code for _, code in cells(prediction) if re.search(r"^my_guess\w* = \{", code, re.MULTILINE)]
    assert len(guesses) == 1 and "my_guess" not in before, (
        "the guess is one dict, written before anything is measured"
    )
    shown = "\n".join(code for _, code in cells(prediction + measurement))
    assert "off by" in shown and len(re.findall(r"\bmy_guess\w*\[", shown)) >= 1
    namespace: dict = {}
    exec(guesses[0], namespace)
    for guess in (value for key, value in namespace.items() if key.startswith("my_guess")):
        for what in guess:
            loops = re.search(r"my_guess\w*\[[a-z]", shown)  # over all of them, by a variable
            assert loops or repr(what).strip("'") in shown, f"nothing is compared with the guess of {what!r}"


def test_every_picture_is_told_in_words(lesson):
    drawn = [c for c in cells(lesson) if re.search(r"^plt\.show\(\)|^\w+\.timeline\(", c[1], re.MULTILINE)]
    assert drawn, "a lesson has a picture"
    for options, code in drawn:
        alt = options.get("mystnb", {}).get("image", {}).get("alt", "")
        assert len(alt.split()) >= 20 and alt.endswith("."), f"say what this picture says: {code[:80]!r}"
    assert len(alternatives(lesson)) == len(drawn)


def first_uses(text: str) -> dict[str, tuple[int, bool]]:
    """Glossary term → where its first use begins, and whether that leads to the glossary."""
    linked = [(m.start(), m.end()) for m in re.finditer(r"\{term\}`[^`]+`", text)]
    found = {}
    for term in TERMS:
        word = re.escape(term).replace(r"\ ", r"\s+") + r"(?:e?s)?"
        flags = 0 if re.search("[A-Z].*[A-Z]", term) else re.IGNORECASE
        use = re.search(rf"(?<![\w-]){word}(?![\w-])", text, flags)
        if use and term not in EVERYDAY:
            found[term] = (use.start(), any(a <= use.start() < b for a, b in linked))
    return found


def test_terms_lead_to_the_glossary_where_they_are_first_used(lesson):
    text = prose(lesson)
    loose = {t: text[max(0, at - 30) : at + 30] for t, (at, linked) in first_uses(text).items() if not linked}
    assert not loose
    assert len(re.findall(r"\{term\}`", lesson)) >= 3


# Figures that no program of ours can know: they come from the source named beside them.
CITED = {
    "10-ddp-from-scratch": {56, 20},  # LUMI's and MareNostrum 5's documentation, cores for jobs
    "13-batch-lr-randomness": {8192, 25690},  # Goyal et al.; the number of an issue
    "14-zero": {80}, "15-zero-3": {80},  # GB of the H100 that MareNostrum 5 does not have
}  # fmt: skip


def known_numbers(code: str) -> set[float]:
    """Numbers in a program, and the same in percent, thousands, millions and billions."""
    found = [
        t.replace("_", "").replace(",", "")
        for t in re.findall(r"(?<![\w.])\d[\d_]*(?:\.\d+)?(?:e-?\d+)?", code)
    ]
    return {round(float(t) * scale, 9) for t in found for scale in (1, 100, 1e3, 1e-3, 1e-6, 1e-9)}


def told_numbers(text: str) -> list[tuple[float, str]]:
    """Numbers in prose with what stands around them; without those of lessons, sections, years of papers."""
    text = re.sub(r"\bet al\.\s+\(\d{4}\)|arXiv:[\d.]+|\bMareNostrum\s+5", "", text)
    text = re.sub(
        r"\b[Ll]essons?\s+\d+(?:\s+\([^)]*\))?(?:(?:,\s+and|,| and| to)\s+\d+(?:\s+\([^)]*\))?)*", "", text
    )
    pattern = r"(?<![\w.−-])\d[\d,]*(?:\.\d+)?"
    return [
        (
            float(m[0].rstrip(",").replace(",", "")),
            " ".join(text[max(0, m.start() - 40) : m.end() + 30].split()),
        )
        for m in re.finditer(pattern, text)
    ]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.parent.name)
def test_every_number_in_the_text_is_one_that_the_code_computes_with_or_asserts(path):
    """A number that is changed in the code, or was never in it, is found here; one that both have wrong is found when the
    lesson's own assertions run."""
    lesson = path.read_text()
    known = known_numbers("\n".join(code for _, code in cells(lesson))) | CITED.get(path.parent.name, set())
    known.add(yaml.safe_load(lesson[4:].partition("\n---\n")[0])["lesson"]["minutes"])
    told = told_numbers(prose(lesson)) + [n for alt in alternatives(lesson) for n in told_numbers(alt)]
    assert len(told) > 20
    assert [(number, where) for number, where in told if round(number, 9) not in known] == []
