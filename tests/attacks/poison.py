"""Poison what people open: pages, terminals, tables and file names."""

from __future__ import annotations

import json
from typing import Any

from tests.attacks.attack import Attack, before, cell_of, cells, edited
from tests.attacks.ground import Found

SCRIPT = "</pre></code></textarea></title></style><script>alert('ESC' + 'APED')</script><img src=x onerror=alert(1)><svg onload=alert(1)>"
ESCAPES = "\\x1b[2J\\x1b]0;owned\\x07\\x1b]8;;http://evil\\x07x\\x1b]8;;\\x07\\x1b[31m\\x9b5n\\x1bP+q\\x1b\\\\\\u202egnp.exe\\u2066\\u200b\\r\\x08"
FORMULA = "=cmd|' /C calc'!A0"


def inert_outputs(found: Found) -> None:
    """What a notebook application would draw or run is not in the executed notebook."""
    kinds = {
        kind for cell in json.loads(found.texts["executed.ipynb"])["cells"] for o in cell.get("outputs", [])
        for kind in o.get("data", {})
    }  # fmt: skip
    assert not kinds - {"text/plain", "image/png", "image/jpeg"}, (
        f"executed.ipynb has outputs of the kinds {sorted(kinds)}"
    )


def markdown(nb: dict[str, Any]) -> None:
    for cell in nb["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = SCRIPT + "[x](javascript:alert(1)) ![x](http://evil/x.svg)"
    nb["metadata"]["title"] = SCRIPT
    cell_of(nb, "chunks")["outputs"] = [
        {"output_type": "display_data", "data": {"text/html": SCRIPT}, "metadata": {}}
    ]


ATTACKS = [
    Attack("markdown", "script in markdown, titles and stored outputs", edited(markdown)),
    Attack("active-outputs", "HTML, JavaScript, SVG, LaTeX, widgets and PDF as outputs", before(f'''
from IPython.display import display, HTML, Javascript, SVG, Markdown, Latex
bad = """{SCRIPT}"""
display(HTML(bad), Javascript("alert(1)"), Markdown(bad), Latex(bad))
for kind in ("image/svg+xml", "text/html", "application/javascript", "application/pdf", "application/vnd.jupyter.widget-view+json", "text/x-evil", "application/x-html-" + bad):
    display({{kind: bad, "text/plain": bad}}, raw=True)
'''), kernel=True, also=inert_outputs),
    Attack("false-pictures", "pictures that are pages", before(f'''
from IPython.display import display
import base64
bad = {SCRIPT!r}
for data in ("\\"><script>alert(1)</script>", base64.b64encode(bad.encode()).decode(), "iVBORw0KGgo=\\" onload=alert(1) x=\\"", base64.b64encode(b"\\x89PNG\\r\\n\\x1a\\n" + bad.encode()).decode()):
    display({{"image/png": data, "text/plain": bad}}, raw=True)
''')),
    Attack("page-in-text", "pages in what is printed, raised and named", before(f'''
bad = {SCRIPT!r}
print(bad)
raise type("E" + bad.replace("'", ""), (Exception,), {{}})(bad)
''', ring=f"def ring_all_reduce(tensor):\n    raise type({SCRIPT!r}, (Exception,), {{}})({SCRIPT!r})")),
    Attack("page-in-source", "pages and directions in the source of an answer", cells(chunks=f"bad = {SCRIPT!r}  # \u202e\u2066 ]]> --> {{{{ 7 * 7 }}}} {{% raw %}}\n" + "WRONG")),
    Attack("templates", "template language in messages", before("raise ValueError('{{ 7 * 7 }} {% include \"/etc/passwd\" %} ${7*7} %(x)s {0}')", ring="def ring_all_reduce(t):\n    raise ValueError('{{ result.seed }} {0.__class__} %s')")),
    Attack("terminal", "escapes, titles, links, directions and backspaces for a terminal", before(f"print('{ESCAPES}')\nraise ValueError('{ESCAPES}')", ring=f"def ring_all_reduce(t):\n    raise ValueError('{ESCAPES}')")),
    Attack("long-words", "a message of one line and a million letters", before("raise ValueError('x' * 10**6)", ring="def ring_all_reduce(t):\n    raise ValueError('y' * 10**6)")),
    Attack("name-page", "a learner's folder whose name is a page", cells(), learner="<script>alert(1)<img src=x onerror=alert(1)>"),
    Attack("name-formula", "a learner's folder whose name is a formula", cells(), learner=FORMULA.replace("/", "_")),
    Attack("name-escapes", "a learner's folder whose name clears the screen", cells(), learner="\x1b[2J\x1b]0;x\x07\u202eevil\n\tname"),
    Attack("name-shell", "a learner's folder whose name is a command line", cells(), learner="-rf $(touch x);`id`&|'\"* --force"),
    Attack("name-long", "a learner's folder with as long a name as there can be", cells(), learner="é" * 127),
    Attack("name-odd", "a learner's folder named like our own files", cells(), learner="results.sqlite"),
    Attack("file-page", "a notebook whose file name is a page", cells(), file="<script>alert(1)<img src=x onerror=alert(1)>", rejected=True),
    Attack("file-escapes", "a notebook whose file name clears the screen, is a formula and a command line", cells(), file=FORMULA.replace("/", "_") + "\x1b[2J\x07\u202e$(touch x)\n", rejected=True),
    Attack("function-names", "functions, files and lines with pages for names", cells(ring=f"""
def ring_all_reduce(t):
    code = compile("def f():\\n    raise ValueError(1)", {SCRIPT!r}, "exec")
    scope = {{"__name__": {SCRIPT!r}}}
    exec(code, scope)
    scope["f"].__code__ = scope["f"].__code__.replace(co_name={SCRIPT!r})
    scope["f"]()
""")),
]  # fmt: skip
