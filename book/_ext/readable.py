"""Sphinx extension: mends what the theme leaves unreadable, and takes out what would load from elsewhere.

- The search button's name holds the words one sees on it (WCAG 2.5.3), the logo stands in a landmark, icons
  are silent.
- Thebe, which Jupyter Book always brings along, is left out: its script comes from a content network.
- Every image must have a text alternative; one without is a warning, which is an error in our build.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

log = logging.getLogger(__name__)

MENDS = (
    (re.compile(r'(<button[^>]*class="[^"]*search-button-field[^>]*?)\s+aria-label="Search"'), r"\1"),
    (re.compile(r'<div class="sidebar-primary-item">(\s*<a class="navbar-brand logo".*?</a>\s*)</div>', re.DOTALL),
     r'<nav class="sidebar-primary-item" aria-label="Home">\1</nav>'),
    (re.compile(r'(<i class="theme-switch[^>]*?)\s+title="[^"]*"'), r"\1"),
    (re.compile(r'<i class="([^"]*\bfa-[^"]*)"(?![^>]*aria-hidden)'), r'<i aria-hidden="true" class="\1"'),
    (re.compile(r"<script>const THEBE_JS_URL.*?</script>\s*", re.DOTALL), ""),
    (re.compile(r'<script type="text/x-thebe-config">.*?</script>\s*', re.DOTALL), ""),
    (re.compile(r'<script[^>]*sphinx-thebe\.js[^>]*></script>\s*'), ""),
    (re.compile(r"<script>kernelName = .*?</script>\s*", re.DOTALL), ""),
    (re.compile(r'<link[^>]*sphinx-thebe\.css[^>]*/>\s*'), ""),
)  # fmt: skip

# A picture's name as its text alternative, which is what Sphinx writes when nobody gave one, says nothing.
IMAGE = re.compile(r"<img\b[^>]*>")
ALT = re.compile(r'\balt="([^"]*)"')


def mend(page: str) -> str:
    """The text of a finished HTML page, mended."""
    for pattern, new in MENDS:
        page = pattern.sub(new, page)
    return page


def unnamed_images(page: str) -> list[str]:
    """The <img> elements of a finished page that no text describes."""
    found = []
    for image in IMAGE.findall(page):
        alt = ALT.search(image)
        if alt is None or not alt[1].strip() or re.fullmatch(r"\S*\.(png|svg|jpe?g)", alt[1]):
            found.append(image)
    return found


def mend_all(app: Sphinx, failure: Exception | None) -> None:
    """Mend every page on disk, when all are written."""
    if failure or app.builder.format != "html":
        return
    for path in sorted(Path(app.outdir).rglob("*.html")):
        if "_static" in path.relative_to(app.outdir).parts:
            continue
        text = path.read_text(encoding="utf-8")
        mended = mend(text)
        if mended != text:
            path.write_text(mended, encoding="utf-8")
        for image in unnamed_images(mended):
            log.warning("a picture has no text alternative: %s", image[:160], location=path.stem)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("build-finished", mend_all)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
