"""The lines of what a GPU holds beside the tensors, the same for training and serving."""

from memcalc.caches import cached
from memcalc.estimates.lines import Line, line
from memcalc.formulas.overhead import communicators_bytes, context_bytes, overhead, workspace_bytes


@cached(64)
def overhead_lines(generation: str, several: bool) -> tuple[Line, ...]:
    """Context, communicator where there are several GPUs, and the workspace of matrix products, on a GPU of `generation`; none
    where no context is counted (Metal)."""
    found = overhead(generation)
    if not found.context:
        return ()
    out = [
        line("overhead", "context", "always", context_bytes, reading=found.context),
        line("overhead", "workspace", "always", workspace_bytes, "gpu", **found.buffers._asdict()),
    ]
    if several:
        out.append(line("overhead", "communicator", "always", communicators_bytes, communicators=1,
                        communicator=found.communicator))  # fmt: skip
    return tuple(out)
