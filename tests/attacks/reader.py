"""Break the reader: files that are no notebooks, or too much of one."""

import json

from tests.attacks.attack import Attack


def whole(text):
    return lambda notebook: text


def deep(notebook):
    return json.dumps(notebook)[:-1] + ', "x": ' + "[" * 100_000 + "]" * 100_000 + "}"


def surrogates(notebook):
    notebook["cells"][-1]["source"] = "\ud800 lone"
    return notebook


def bad_utf8(notebook):
    return json.dumps(notebook).encode().replace(b"cells", b"c\xff\xfells", 1)


def twice_the_keys(notebook):
    text = json.dumps(notebook)
    return text[:-1] + ', "cells": []}'


def not_numbers(notebook):
    return json.dumps(notebook | {"nbformat_minor": float("nan"), "metadata": {"x": float("inf")}})


def version(number):
    def bend(notebook):
        return notebook | {"nbformat": number}

    return bend


def a_cell_of_seventy_megabytes(notebook):
    notebook["cells"][-1]["source"] = "x" * 70_000_000
    return notebook


def many_cells(notebook):
    one = {"cell_type": "markdown", "metadata": {}, "source": "x", "id": "a"}
    notebook["cells"] += [one] * 50_000
    return notebook


def wrong_types(notebook):
    notebook["cells"] = {"0": notebook["cells"]}
    return notebook


def sources_of_odd_types(notebook):
    for number, cell in enumerate(notebook["cells"]):
        cell["source"] = [None, 3, {"a": 1}, [["x"]], True][number % 5]
    return notebook


def a_big_number(notebook):
    return json.dumps(notebook)[:-1] + ', "x": ' + "9" * 500_000 + "}"


def metadata_of_odd_types(notebook):
    for cell in notebook["cells"]:
        cell["metadata"] = "solution"
    return notebook


ATTACKS = [
    Attack("an_empty_file", bend=whole(b"")),
    Attack("no_json", bend=whole("print('hello')")),
    Attack("half_a_notebook", bend=lambda notebook: json.dumps(notebook)[:-300]),
    Attack("a_zip_file", bend=whole(b"PK\x03\x04" + bytes(5000))),
    Attack("a_gzip_bomb", bend=whole(b"\x1f\x8b\x08\x00" + bytes(100_000))),
    Attack("zeros", bend=whole(bytes(100_000))),
    Attack("a_byte_order_mark", bend=whole(b"\xff\xfe{\x00}\x00")),
    Attack("a_list", bend=whole("[]")),
    Attack("a_number", bend=whole("1e999999")),
    Attack("format_2", bend=version(2)),
    Attack("format_3", bend=version(3)),
    Attack("format_99", bend=version(99)),
    Attack("format_of_text", bend=version("4")),
    *(Attack(bend.__name__, bend=bend) for bend in (
        deep, surrogates, bad_utf8, twice_the_keys, not_numbers, a_cell_of_seventy_megabytes, many_cells, wrong_types,
        sources_of_odd_types, a_big_number, metadata_of_odd_types,
    )),
]  # fmt: skip
