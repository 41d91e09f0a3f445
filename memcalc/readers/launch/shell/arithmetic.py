"""$(( … )) and expr: whole numbers alone, within bounds."""

import ast
import operator
import re
from collections.abc import Callable

BIGGEST = 10**18
OPERATIONS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: lambda a, b: int(a / b) if abs(a) < 2**52 else a // b, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
COMPARES: dict[type[ast.cmpop], Callable[[int, int], bool]] = {
    ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}  # fmt: skip


def arithmetic(text: str) -> int | None:
    """The value of a sum in which all variables are numbers already; None where it is none.

    >>> arithmetic("256 / (4 * 8 * 2)"), arithmetic("1024 * 8"), arithmetic("x + 1")
    (4, 8192, None)
    """
    if len(text) > 300 or not re.fullmatch(r"[\d\s+\-*/%()<>=!&|]*", text):
        return None
    try:
        return _value(ast.parse(text.strip().replace("&&", " and ").replace("||", " or "), mode="eval").body)
    except (SyntaxError, ZeroDivisionError, ValueError, RecursionError, MemoryError, OverflowError):
        return None


def _value(node: ast.expr) -> int | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value <= BIGGEST:
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _value(node.operand)
        return None if inner is None else -inner
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        left, right = _value(node.left), _value(node.right)
        found = None if left is None or right is None else OPERATIONS[type(node.op)](left, right)
        return found if found is not None and abs(found) <= BIGGEST else None
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        left, right = _value(node.left), _value(node.comparators[0])
        return None if left is None or right is None else int(COMPARES[type(node.ops[0])](left, right))
    return None
