"""Poison what people open: script, markup, terminal escapes, in every place that is shown to somebody."""

from tests.attacks.attack import attacks

SCRIPT = "<script>fetch('//192.0.2.1')</script><img src=x onerror=alert(1)>"

# The test looks for a live `<script>`, `onerror=` or escape in feedback.html and the report.
ATTACKS = attacks(
    script_in_html=f"from IPython.display import HTML, display\ndisplay(HTML({SCRIPT!r}))",
    script_in_svg=f"from IPython.display import SVG, display\ndisplay(SVG('<svg xmlns=\"http://www.w3.org/2000/svg\">{SCRIPT}</svg>'.replace('<img src=x onerror=alert(1)>', '')))",
    script_in_markdown=f"from IPython.display import Markdown, display\ndisplay(Markdown({SCRIPT!r} + '[x](javascript:alert(1))'))",
    script_in_javascript="from IPython.display import Javascript, display\ndisplay(Javascript('alert(1)'))",
    script_as_a_widget="from IPython.display import display\ndisplay({'application/vnd.jupyter.widget-view+json': {'model_id': '<script>'}, 'text/html': '<script>x</script>'}, raw=True)",
    script_in_text=f"print({SCRIPT!r})",
    script_in_an_error=f"raise ValueError({SCRIPT!r})",
    script_in_an_error_when_called=f"def ring_all_reduce(tensor): raise ValueError({SCRIPT!r})",
    script_in_the_name_of_an_error=f"raise type({SCRIPT!r}, (Exception,), {{}})('x')",
    script_in_the_source=f"# {SCRIPT}\n'''{SCRIPT}'''",
    script_in_a_returned_text=f"def ring_all_reduce(tensor): return {SCRIPT!r}",
    script_in_a_data_url="from IPython.display import display\ndisplay({'image/png': 'x\" onerror=\"alert(1)'}, raw=True)",
    escapes_for_a_terminal="print('\\x1b]0;owned\\x07\\x1b[2J\\x1b[31mred\\x1b]8;;http://192.0.2.1\\x07')",
    escapes_in_an_error="raise ValueError('\\x1b[2J\\x1b]0;owned\\x07')",
    formulas_for_a_spreadsheet="raise ValueError('=cmd|calc!A1')",
    text_that_turns_round="print('\\u202e\\u2066 evil')",
)
