"""Run beside the learner's code: an answer or a refusal, as data."""


def ask(answers, function, first, site):
    """What `function(first, site)` returns, or how it refused: {"how": "answer" | "refused" | "stopped", …}."""
    try:
        return {"how": "answer", "text": "", "value": getattr(answers, function)(first, site)}
    except NotImplementedError:
        raise
    except ValueError as refusal:
        return {"how": "refused", "text": str(refusal)[:1000], "value": None}
    except (AssertionError, RuntimeError, SystemExit) as other:
        return {"how": "stopped", "text": f"{type(other).__name__}: {other}"[:1000], "value": None}
