"""Python calls as data: a file is parsed, its calls and plain assignments are read, and nothing of it is run."""

from __future__ import annotations

import ast
import operator
from dataclasses import dataclass, field
from typing import Any

_ARITHMETIC = {
    ast.Mult: operator.mul,
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.FloorDiv: operator.floordiv,
}


@dataclass(frozen=True)
class Computed:
    """A value that only running the program would tell; `text` is how the program writes it."""

    text: str


@dataclass
class Call:
    """name: the last part of what is called. by_name: keyword arguments. text: how the program writes it."""

    name: str
    text: str
    by_position: list[Any]
    by_name: dict[str, Any]
    line: int = field(default=0, compare=False)


def calls(text: str) -> list[Call]:
    """All calls in a program, in the order of its lines. Raises SyntaxError when it is no Python."""
    tree = ast.parse(text)
    known: dict[str, ast.expr] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            known[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            known[node.target.id] = node.value
    found = [_call(node, known) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return sorted(found, key=lambda call: call.line)


def _call(node: ast.Call, known: dict[str, ast.expr], deep: int = 0) -> Call:
    function = node.func
    name = (
        function.attr
        if isinstance(function, ast.Attribute)
        else function.id
        if isinstance(function, ast.Name)
        else ""
    )
    by_name: dict[str, Any] = {}
    for keyword in node.keywords:
        value = _value(keyword.value, known, deep)
        if keyword.arg is not None:
            by_name[keyword.arg] = value
        elif isinstance(value, dict):  # **settings
            by_name |= {str(key): item for key, item in value.items()}
    return Call(
        name,
        ast.unparse(node),
        [_value(argument, known, deep) for argument in node.args],
        by_name,
        node.lineno,
    )


def _value(node: ast.expr, known: dict[str, ast.expr], deep: int = 0) -> Any:
    """The value that an expression plainly has; `Computed` where it takes a run to know."""
    if deep > 20:
        return Computed(ast.unparse(node))
    match node:
        case ast.Constant():
            return node.value
        case ast.Name() if node.id in known:
            return _value(known[node.id], known, deep + 1)
        case ast.List() | ast.Tuple():
            return [_value(item, known, deep + 1) for item in node.elts]
        case ast.Dict():
            items = zip(node.keys, node.values, strict=True)
            return {
                _value(key, known, deep + 1): _value(item, known, deep + 1)
                for key, item in items
                if key is not None
            }
        case ast.UnaryOp(op=ast.USub()):
            value = _value(node.operand, known, deep + 1)
            return -value if isinstance(value, int | float) else Computed(ast.unparse(node))
        case ast.BinOp():
            left, right = _value(node.left, known, deep + 1), _value(node.right, known, deep + 1)
            both = all(isinstance(side, int | float) and abs(side) < 1e15 for side in (left, right))
            work = _ARITHMETIC.get(type(node.op))
            if both and work and not (work is operator.floordiv and right == 0):
                return work(left, right)
            return Computed(ast.unparse(node))
        case ast.JoinedStr():
            parts = [
                _value(part.value if isinstance(part, ast.FormattedValue) else part, known, deep + 1)
                for part in node.values
            ]
            if any(isinstance(part, Computed | Call) for part in parts):
                return Computed(ast.unparse(node))
            return "".join(map(str, parts))
        case ast.Call():
            call = _call(node, known, deep + 1)
            return call.by_name if call.name == "dict" and not call.by_position else call
    return Computed(ast.unparse(node))


def plain(value: Any) -> Any:
    """A value for people: what takes a run to know, as the program writes it."""
    return value.text if isinstance(value, Computed | Call) else value
