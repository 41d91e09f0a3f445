"""One training run or server that a file describes."""

from memcalc.frozen import NamedTuple
from memcalc.readers.launch.kind import Kind
from memcalc.readers.launch.reading import Reading


class Job(NamedTuple):
    """What was read of it. `notes` are doubts of the reading, `hints` what only a comment says."""

    name: str
    file: str
    kind: Kind
    label: str  # the kind as people call it: deepspeed-json, vllm-sh …
    reading: Reading
    notes: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
