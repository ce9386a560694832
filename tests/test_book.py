"""The book builds without a warning and without the internet, and its pages can be read by everybody."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from bs4 import BeautifulSoup

from aboard.cluster import means

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build/html"
TOC = yaml.safe_load((ROOT / "book/_toc.yml").read_text())
FILES = [TOC["root"], *(chapter["file"] for part in TOC["parts"] for chapter in part["chapters"])]
LESSONS = [file for file in FILES if file.startswith("notebooks/")]


@pytest.fixture(scope="module")
def html() -> Path:
    """The built book. Lessons that have not changed since the last build are not run again."""
    environment = os.environ | {"BIN": str(Path(sys.executable).parent)}
    ran = subprocess.run([ROOT / "tools/book.sh"], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, "tools/book.sh failed:\n" + (ran.stdout + ran.stderr)[-6000:]
    return HTML


@pytest.fixture(params=FILES)
def soup(html: Path, request: pytest.FixtureRequest) -> BeautifulSoup:
    return read(html / f"{request.param}.html")


def read(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(), "html.parser")


def test_page_can_be_read_by_everybody(soup):
    assert soup.html["lang"] == "en" and soup.title.text.strip()
    assert soup.select_one(".skip-link a[href='#main-content']") and soup.select_one("#main-content")
    levels = [
        int(heading.name[1]) for heading in soup.select("article h1, article h2, article h3, article h4")
    ]
    assert levels[0] == 1 and levels.count(1) == 1, "a page has one main heading, and it comes first"
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False)), (
        "a level of headings is left out"
    )
    for image in soup.select("img"):
        alt = image.get("alt", "").strip()
        assert alt and not re.fullmatch(r"\S*\.(png|svg|jpe?g)", alt), (
            f"no text alternative: {str(image)[:200]}"
        )
    for drawing in soup.select(".cell_output svg"):
        named = drawing.get("aria-label") or drawing.get("aria-labelledby") or drawing.find("title")
        assert named and drawing.get("role") == "img", f"no text alternative: {str(drawing)[:200]}"
    for table in soup.select("article table"):
        assert table.select("th"), "a table without headings"


def test_page_loads_nothing_from_elsewhere(soup):
    for element in soup.select("script, img, iframe, source, video, audio, object, embed, link, use"):
        for attribute in ("src", "href", "data", "srcset", "xlink:href"):
            value = element.get(attribute) or ""
            assert not re.match(r"(https?:)?//", value), f"loads {value}"
    # Addresses in the page's own scripts and styles would be loaded later.
    for element in soup.select("script:not([type='application/ld+json']), style"):
        assert not re.search(r"https?://(?!www\.w3\.org/)", element.text), (
            f"names an address: {element.text[:200]}"
        )


def test_styles_load_nothing_from_elsewhere(html):
    for path in (html / "_static").rglob("*.css"):
        found = re.search(r"(?:url\(\s*|@import\s+)['\"]?(?:https?:)?//[^)'\"]+", path.read_text())
        assert not found, f"{path} loads {found and found[0]}"


def test_links_lead_somewhere(html):
    pages = {path: read(path) for path in html.rglob("*.html") if "_static" not in path.parts}
    for path, soup in pages.items():
        for element, attribute in [(e, "href") for e in soup.select("a[href], link[href]")] + [
            (e, "src") for e in soup.select("script[src], img[src]")
        ]:
            target, _, fragment = unquote(element[attribute]).partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            file = (path.parent / target.split("?")[0]).resolve() if target else path
            assert file.exists(), f"{path}: {target} is not there"
            if fragment and file in pages and element.name == "a":
                there = pages[file].find(id=fragment) or pages[file].find(attrs={"name": fragment})
                assert there or fragment == "main-content", (
                    f"{path}: nothing called #{fragment} in {file.name}"
                )


@pytest.mark.parametrize("lesson", LESSONS)
def test_lesson_is_executed_and_says_what_it_teaches(html, lesson):
    soup = read(html / f"{lesson}.html")
    needs_slurm = "\n  needs: slurm\n" in (ROOT / f"{lesson}.md").read_text()
    if not (needs_slurm and means.missing(means.SLURM)):
        assert soup.select(".cell_output"), "no cell has an output: was the lesson run?"
    data = json.loads(soup.select_one("script[type='application/ld+json']").text)
    assert data["@type"] == "LearningResource" and data["name"] == soup.h1.contents[0].strip()
    assert re.fullmatch(r"PT\d+M", data["timeRequired"]) and data["teaches"] and len(data["description"]) > 20
    assert data["license"].startswith("https://creativecommons.org/licenses/by/4.0")


def test_no_exercise_is_printed_with_its_solution(html):
    assert not (html / "exercises").exists() and not (html / "_sources/exercises").exists()
    for path in (html / "notebooks").rglob("*.html"):
        assert "BEGIN SOLUTION" not in path.read_text(), path


def test_licences_are_in_the_footer(soup):
    links = {a["href"] for a in soup.select("footer a[rel='license']")}
    assert links == {
        "https://creativecommons.org/licenses/by/4.0/",
        "https://www.apache.org/licenses/LICENSE-2.0",
    }
