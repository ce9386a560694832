"""Feedback and report: kind to read, and nothing of a stranger's gets through as anything but text."""

from __future__ import annotations

import base64
import io
import json
import sqlite3
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from rich.console import Console

from autograder.feedback import as_html_fragment, as_page, as_plain, as_text, plain
from autograder.report import gather, tables, write_report
from autograder.store import ingest, read_result, schema, write_result
from autograder.verdict import CellResult, CheckResult, Result

NASTY = "<script>alert(1)</script>`<script>`\x1b[2J\x1b]0;owned\x07\u202egnp.exe[bold]x[/bold]"


def result(learner: str = "ada", **changes: object) -> Result:
    checks = [
        CheckResult(id="a", title="sums", points=2, max_points=2, status="pass"),
        CheckResult(
            id="b", title="is quick", max_points=3, status="fail", diagnosis="slow", says="It is too slow.",
            message="It took 9 s.", case="3 ranks", hint="Send chunks.",
        ),
    ]  # fmt: skip
    base = Result(
        learner=learner, exercise="ring", title="Ring", status="graded", score=2, max_score=5, checks=checks
    )
    return base.model_copy(update=changes)


def hostile() -> Result:
    check = CheckResult(
        id="b",
        title=NASTY,
        max_points=3,
        status="fail",
        diagnosis=NASTY,
        says=NASTY,
        message=NASTY,
        case=NASTY,
        hint=NASTY,
    )
    cells = [CellResult(id=NASTY, status="error", message=NASTY)]
    return result(NASTY, title=NASTY, message=NASTY, checks=[check], cells=cells, notes=[NASTY])


class Outline(HTMLParser):
    """Tags and headings of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def pages(tmp_path: Path, one: Result) -> list[str]:
    return [as_page(one, None), as_html_fragment(one), write_report([one], tmp_path).read_text()]


def test_a_wrong_answer_reads_what_why_for_which_draw_and_what_next(tmp_path):
    for text in (as_plain(result()), as_page(result(), None), as_html_fragment(result())):
        for words in ("2 of 5 points", "It is too slow.", "It took 9 s.", "3 ranks", "Send chunks."):
            assert words in text


def test_what_was_said_above_is_not_said_again():
    one = result()
    again = one.checks[1].model_copy(update={"id": "c", "title": "is small", "hint": None})
    other = again.model_copy(update={"id": "d", "title": "is kind", "message": "It took 8 s."})
    for text in (
        as_plain(r := result(checks=[*one.checks, again, other])),
        as_page(r, None),
        as_html_fragment(r),
    ):
        below = text[text.rindex("is small") :]
        assert "The same as above, at “is quick”." in below and "It took 8 s." in below
        assert "It took 9 s." in text and "It took 9 s." not in below


def test_a_page_begins_with_what_to_do_next():
    page = as_page(result(), None)
    next_step = page.split("What to do next")[1].split("What was checked")[0]
    assert "It is too slow." in next_step and "It took 9 s." in next_step and "Send chunks." in next_step


def test_a_right_answer_is_told_so():
    right = result(score=5, checks=[CheckResult(id="a", title="sums", points=5, max_points=5, status="pass")])
    assert "Everything is right" in as_plain(right) and "Everything is right" in as_page(right, None)


def test_in_a_notebook_plain_text_is_plain_and_shows_nothing_by_itself(monkeypatch):
    """There rich takes the notebook for a terminal with colours, and draws into it."""
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("rich.jupyter.display", lambda *_: pytest.fail("something was shown"))
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = as_plain(result())
    assert "\x1b" not in text and "2 of 5 points" in text


def test_in_a_terminal_long_lines_stay_below_their_check():
    long = result()
    long.checks[1].message = "word " * 60
    lines = as_plain(long).splitlines()
    assert [line[:4] for line in lines if "word" in line] == ["    "] * 4


def test_a_rejected_notebook_says_why():
    page = as_page(result(status="rejected", score=0, checks=[], message="It is not a notebook."), None)
    assert "Not graded" in page and "It is not a notebook." in page and "Nothing ran" in page


def test_a_page_shows_the_answers_and_what_printed_and_not_the_statement_again():
    new = nbformat.v4
    cells = [
        new.new_markdown_cell("| a table | of the statement |"),
        new.new_code_cell("quiet = 'given and silent'"),
        new.new_code_cell("print('given')", outputs=[new.new_output("stream", text="it printed this")]),
        new.new_code_cell("mine = 1", metadata={"all_aboard": {"answer": "ring"}}),
    ]
    page = as_page(result(), new.new_notebook(cells=cells))
    assert "Answer cell ring" in page and "mine = 1" in page and "it printed this" in page
    assert "of the statement" not in page and "silent" not in page


def test_hostile_strings_stay_text(tmp_path):
    for page in pages(tmp_path, hostile()):
        names = [tag for tag, _ in Outline(page).tags]
        assert "script" not in names
        assert "\x1b" not in page and "\u202e" not in page
    text = as_plain(hostile())
    assert "\x1b" not in text and "\u202e" not in text and "[bold]" in text
    console = Console(file=io.StringIO(), width=120)
    console.print(as_text(hostile()), *tables([hostile()], 120))


def test_what_stands_between_backticks_is_code_on_a_page(tmp_path):
    hint = "`t[0] < 1` is sent, and `no more"
    check = result().checks[1].model_copy(update={"says": hint, "hint": hint})
    for page in pages(tmp_path, result(checks=[check])):
        assert "<code>t[0] &lt; 1</code> is sent, and `no more" in page


def test_pages_load_nothing_and_run_nothing(tmp_path):
    for page in pages(tmp_path, result()):
        for tag, attributes in Outline(page).tags:
            assert tag not in ("script", "iframe", "object", "embed", "link")
            assert not any(name.startswith("on") for name in attributes)
            assert not (attributes.get("src") or "").startswith(("http", "//"))
    assert "default-src 'none'" in as_page(result(), None)


def test_pages_can_be_read_by_a_screen_reader(tmp_path):
    for page in (as_page(result(), None), write_report([result()], tmp_path).read_text()):
        outline = Outline(page).tags
        assert ("html", {"lang": "en"}) in outline
        assert {"main", "header", "title"} <= {tag for tag, _ in outline}
        levels = [int(tag[1]) for tag, _ in outline if tag in ("h1", "h2", "h3")]
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
        assert all(a.get("aria-label") for tag, a in outline if tag == "svg")
        assert all(a.get("scope") for tag, a in outline if tag == "th")
        # What scrolls can be reached without a mouse
        wide = [a for _, a in outline if a.get("class") == "wide"]
        assert all(
            a.get("tabindex") == "0" and a.get("aria-label") and a.get("role") == "region" for a in wide
        )


def test_only_text_and_real_pictures_of_the_notebook_are_shown():
    png = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 20).decode()
    outputs = [
        nbformat.v4.new_output("display_data", {"text/html": "<b>bold</b>", "text/plain": "as text"}),
        nbformat.v4.new_output(
            "display_data", {"image/svg+xml": "<svg onload=alert(1)>", "text/plain": "drawn"}
        ),
        nbformat.v4.new_output("display_data", {"image/png": png, "text/plain": "a plot"}),
        nbformat.v4.new_output("display_data", {"image/png": 'x" onerror="alert(1)', "text/plain": "forged"}),
        nbformat.v4.new_output("stream", text="\x1b[31mred\x1b[0m <i>"),
    ]
    cell = nbformat.v4.new_code_cell("print('</code><script>')", outputs=outputs)
    page = as_page(result(), nbformat.v4.new_notebook(cells=[cell]))
    assert "<b>bold" not in page and "onload" not in page and "onerror" not in page
    assert page.count("data:image/png") == 1
    for words in ("as text", "drawn", "forged", "red &lt;i&gt;", "&lt;script&gt;"):
        assert words in page


def test_the_report_names_the_commonest_diagnosis_and_links_safely(tmp_path):
    other = result("cem")
    other.checks[1].diagnosis, other.checks[1].says = "wrong", "It is wrong."
    names = ["ada", "b/en", 'c"d', "dora"]
    cohort = gather([*(result(n) for n in names), other])
    assert cohort.checks["ring"]["b"].commonest == ("slow", 4, "It is too slow.")
    page = write_report([result(n) for n in names], tmp_path).read_text()
    links = [a["href"] for tag, a in Outline(page).tags if tag == "a" and "feedback" in (a["href"] or "")]
    assert links == [
        "ada/ring/feedback.html",
        "b%2Fen/ring/feedback.html",
        "c%22d/ring/feedback.html",
        "dora/ring/feedback.html",
    ]


def test_plain_keeps_words_and_drops_what_moves_the_cursor():
    assert plain("a\x1b[2Jb\rc\td\ne\u202ef") == "abc\td\nef"
    assert plain("x" * 100, 10) == "x" * 10 + "…"


def test_results_come_back_from_disk_and_the_database_is_made_again(tmp_path):
    folder = tmp_path / "ada" / "ring"
    write_result(folder, result(), "<p>", None)
    assert read_result(folder / "result.json") == result()
    assert ingest(tmp_path) == 1 and ingest(tmp_path) == 1
    (tmp_path / "results.sqlite").write_bytes(b"this is no database" * 100)
    assert ingest(tmp_path) == 1
    with sqlite3.connect(tmp_path / "results.sqlite") as database:
        assert database.execute("select learner, score from submissions").fetchall() == [("ada", 2.0)]
        assert database.execute('select "check", diagnosis from checks order by position').fetchall() == [
            ("a", None),
            ("b", "slow"),
        ]


def test_half_a_result_counts_as_none(tmp_path):
    write_result(tmp_path / "ada" / "ring", result(), "<p>", None)
    path = tmp_path / "ada" / "ring" / "result.json"
    path.write_bytes(path.read_bytes()[:-20])
    assert read_result(path) is None


@pytest.mark.parametrize("name", ["..", "\0"])
def test_results_cannot_be_led_elsewhere(tmp_path, name):
    with pytest.raises(ValueError):
        write_result(tmp_path / "a" / name, result(), "", None)


def test_the_committed_schema_is_the_one_of_the_code():
    path = Path(__file__).parents[2] / "autograder" / "result.schema.json"
    assert json.loads(path.read_text()) == schema(), "write it again with `python -m autograder.store`"


def test_scores_of_many_exercises_can_be_read_on_eighty_columns():
    titles = [f"Exercise number {n}" for n in range(14)]
    results = [result(exercise=f"exercise-{n}", title=title) for n, title in enumerate(titles)]
    console = Console(file=io.StringIO(), width=80)
    for one in tables(results, 80):
        console.print(one)
    shown = console.file.getvalue()
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert shown.count("number") == len(titles) and "…" not in shown
    assert "exercises 1 to 4 of 14" in shown and "exercises 13 to 14 of 14" in shown
