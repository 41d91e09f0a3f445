"""Formulas that can say what they are: the displayed form is read from the function's own return expression.

>>> @formula("rajbhandari-2020", "section 5")
... def doubled(parameters: int) -> int:
...     return 2 * parameters
>>> doubled(4)
8
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from memcalc.caches import cached
from memcalc.frozen import NamedTuple

P = ParamSpec("P")
R = TypeVar("R")

_NAME = re.compile(r"\b[^\W\d]\w*")  # of an input, or of a function

EXACT, ESTIMATE, ASSUMED = "exact", "estimate", "assumed"
CERTAINTY_ORDER = (EXACT, ESTIMATE, ASSUMED)


class Card(NamedTuple):
    """What a formula says about itself."""

    source: str  # key into memcalc.sources.SOURCES
    place: str  # section, equation, file
    certainty: str


CARDS: dict[Any, Card] = {}


def formula(source: str, place: str = "", certainty: str = EXACT) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Register a function with its source; the function itself is returned unchanged, so calls cost nothing more."""

    def register(function: Callable[P, R]) -> Callable[P, R]:
        CARDS[function] = Card(source, place, certainty)
        return function

    return register


def ceil_div(a: int, b: int) -> int:
    """a / b rounded up, exactly.

    >>> ceil_div(7, 2)
    4
    """
    return -(-a // b)


@cached(512)
def expression(function: Callable[..., Any]) -> str:
    """The return expression of a formula, as written.

    Falls back to the call's form where the source text is not at hand (a zipped install).
    """
    import ast
    import linecache
    from textwrap import dedent

    code = function.__code__
    lines = linecache.getlines(code.co_filename)[code.co_firstlineno - 1 :]
    try:
        block = _first_block(lines)
        returns = [node for node in ast.walk(ast.parse(dedent(block))) if isinstance(node, ast.Return)]
        return ast.unparse(returns[-1].value)  # type: ignore[arg-type]
    except (SyntaxError, IndexError, TypeError, AttributeError):
        return f"{function.__name__}({', '.join(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])})"


def _first_block(lines: list[str]) -> str:
    """The decorated function that starts at the first line: up to the next line at the same indentation."""
    indent = len(lines[0]) - len(lines[0].lstrip())
    block, in_body = [lines[0]], False
    for line in lines[1:]:
        depth = len(line) - len(line.lstrip())
        if in_body and line.strip() and depth <= indent and not line.lstrip().startswith(")"):
            break
        in_body = in_body or line.rstrip().endswith(":")
        block.append(line)
    return "".join(block)


def with_values(function: Callable[..., Any], inputs: Mapping[str, Any]) -> str:
    """The expression with its inputs put in: '2 * parameters' with parameters=4 reads '2 * 4'."""
    return _NAME.sub(lambda match: str(inputs.get(match[0], match[0])), expression(function))
