"""Sphinx extension: every lesson page is run as a notebook, and says what it teaches, for machines.

Takes the `lesson:` block of a lesson's front matter; gives a JSON-LD script in the page's head that follows
Bioschemas' profile TrainingMaterial 1.0 (https://bioschemas.org/profiles/TrainingMaterial/1.0-RELEASE), so that
training catalogues can harvest the book. A lesson without the block, or with a key missing, is a warning, which
is an error in our build.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from sphinx.application import Sphinx
from sphinx.util import logging

log = logging.getLogger(__name__)

# Key of the `lesson:` block -> what its value must be.
KEYS: dict[str, type] = {
    "number": int,
    "module": str,
    "minutes": int,
    "exercise": str,
    "teaches": list,
    "description": str,
}
NEEDS = ("slurm",)  # what a lesson may need beside Python, under the optional key `needs`


def front_matter(text: str) -> dict[str, Any]:
    """The YAML block at the top of `text`; empty when there is none."""
    if not text.startswith("---\n"):
        return {}
    block, found, _ = text[4:].partition("\n---\n")
    return (yaml.safe_load(block) or {}) if found else {}


def problems(block: Any) -> list[str]:
    """What is wrong with a `lesson:` block, one sentence each; empty when it is whole."""
    if not isinstance(block, dict):
        return ["the front matter has no `lesson:` block (the author's guide shows one)"]
    found = [f"`lesson` has no `{key}`" for key in KEYS if key not in block]
    found += [f"`lesson.{key}` is unknown" for key in block if key not in KEYS and key != "needs"]
    if block.get("needs", NEEDS[0]) not in NEEDS:
        found.append(f"`lesson.needs` must be {' or '.join(NEEDS)}, not {block['needs']!r}")
    found += [
        f"`lesson.{key}` must be of type {kind.__name__} and not empty"
        for key, kind in KEYS.items()
        if key in block and (not isinstance(block[key], kind) or not block[key])
    ]
    return found


def training_material(title: str, block: dict[str, Any], url: str = "") -> dict[str, Any]:
    """The JSON-LD of one lesson. `minutes` becomes an ISO 8601 duration."""
    material = {
        "@context": "https://schema.org/",
        "@type": "LearningResource",
        "http://purl.org/dc/terms/conformsTo": {
            "@type": "CreativeWork",
            "@id": "https://bioschemas.org/profiles/TrainingMaterial/1.0-RELEASE",
        },
        "name": title,
        "description": block["description"],
        "teaches": block["teaches"],
        "timeRequired": f"PT{block['minutes']}M",
        "keywords": ["distributed training", "PyTorch", "high-performance computing", "EuroHPC"],
        "learningResourceType": ["lesson", "notebook", "exercise"],
        "educationalLevel": "intermediate",
        "audience": {"@type": "EducationalAudience", "educationalRole": "machine-learning engineer"},
        "inLanguage": "en",
        "license": "https://creativecommons.org/licenses/by/4.0/",
        "isAccessibleForFree": True,
        "author": {"@type": "Organization", "name": "The All Aboard authors"},
        "isPartOf": {"@type": "Course", "name": "All Aboard"},
        "position": block["number"],
    }
    return material | ({"url": url} if url else {})


def add_to_head(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Put the JSON-LD of a lesson page into its head."""
    if not page.startswith("notebooks/"):
        return
    source = Path(app.env.doc2path(page))
    block = front_matter(source.read_text(encoding="utf-8")).get("lesson")
    wrong = problems(block)
    for problem in wrong:
        log.warning("%s", problem, location=page)
    if wrong or block is None:
        return
    base = app.config.html_baseurl
    title = app.env.titles[page].astext()
    data = json.dumps(
        training_material(title, block, f"{base}{page}.html" if base else ""), ensure_ascii=False
    )
    script = data.replace("</", "<\\/")  # so that no text can close the element
    context["metatags"] = (
        context.get("metatags", "") + f'\n<script type="application/ld+json">{script}</script>\n'
    )
    context["metatags"] += f'<meta name="description" content="{_attribute(block["description"])}" />\n'


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


def as_notebook(app: Sphinx, page: str, source: list[str]) -> None:
    """Tell MyST-NB that a lesson is a notebook, so that authors need not. Lines keep their numbers."""
    matter = front_matter(source[0])
    if page.startswith("notebooks/") and matter:
        block, _, body = source[0][4:].partition("\n---\n")
        # JSON is YAML on one line.
        line = json.dumps(matter | {"file_format": "mystnb"}, default=str)
        source[0] = "---\n" + line + "\n" * block.count("\n") + "\n---\n" + body


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", as_notebook)
    app.connect("html-page-context", add_to_head)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
