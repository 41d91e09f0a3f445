"""A model whose head is a matrix of its own where its config ties it to the embedding."""

from dataclasses import replace

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.head import Head
from memcalc.caches import cached


@cached(64)
def untied(architecture: Architecture) -> Architecture:
    """The same with untied heads; the same object where none is tied."""
    if not architecture.tied:
        return architecture
    parts = tuple(
        replace(part, exit=tuple((name, replace(block, tied=False) if isinstance(block, Head) else block)
                                 for name, block in part.exit))
        for part in architecture.parts
    )  # fmt: skip
    return replace(architecture, parts=parts, tied=False)
