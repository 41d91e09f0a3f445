"""Settings side by side: every combination of what is varied, or every scenario of some sizing files, with the same figures."""

import os
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, NoReturn

from memcalc.errors import InputError, MemcalcError
from memcalc.estimates.comparison import ComparedCase, SideBySide, word
from memcalc.sizing.answer import Answer, Reported
from memcalc.sizing.invocation import Invocation
from memcalc.sizing.subjects import AnyAccelerator, AnyModel, Subjects
from memcalc.specs.spec import SpecError

if TYPE_CHECKING:
    from memcalc.report.report import Report

MAX_CASES = 256
Values = Mapping[str, Sequence[Any]]
SUBJECTS = ("model", "gpu")  # may be varied beside settings

# What is shown where no column was asked for, by command: keys of the JSON.
COLUMNS = {
    "train": ("per_gpu.needed", "gpu.verdict", "per_gpu.peak", "per_gpu.activations"),
    "infer": ("per_gpu.needed", "gpu.verdict", "per_gpu.weights", "capacity.max_batch", "speed.decode_tokens_per_second"),
    "check": ("per_gpu.needed", "gpu.verdict", "per_gpu.peak"),
}  # fmt: skip
STEP = "time.step_seconds"
TIMES = {"train": (STEP,), "infer": ()}


class SizedComparison(Reported):
    """A comparison as the command line shows it."""

    def __init__(self, found: SideBySide) -> None:
        self.found = found

    @property
    def cases(self) -> tuple[ComparedCase, ...]:
        return self.found.cases

    def report(self) -> "Report":
        from memcalc.report.comparing import report

        return report(self.found)


def compare(
    command: str,
    model: AnyModel | None,
    gpu: AnyAccelerator = None,
    *,
    vary: Values,
    columns: Sequence[str] = (),
    presets: Sequence[str] = (),
    **settings: Any,
) -> SizedComparison:
    """`train` or `infer` with every combination of the values of `vary` (a setting, model or gpu → its values).

    `model`: None where it is varied. `columns`: keys of the JSON to show. A combination that is refused says why; all of them
    refused is an error.

    >>> found = compare("train", "gpt2", "rtx-4090", vary={"micro_batch": (1, 64)}, columns=("gpu.verdict",))
    >>> [case.values["gpu.verdict"] for case in found.cases]
    ['fits', 'no']
    """
    asked = _checked(vary, settings)
    if model is None and "model" not in asked:
        raise SpecError("none is given, and none is varied", "MODEL")
    cases, first = [], None
    for values in product(*asked.values()):
        changed = dict(zip(asked, values, strict=True))
        which = (changed.pop("model", model), changed.pop("gpu", gpu))
        said = Invocation(command, *which, tuple(presets), {**_said(settings), **changed})
        case, error = _case(said, dict(zip(asked, values, strict=True)), columns or (*COLUMNS[command], *TIMES[command]))
        cases.append(case)
        first = first or error
    if first and all(case.refused for case in cases):
        raise first
    shown = tuple(columns) or _shown(command, cases)
    kept = {*shown, *COLUMNS[command]}  # what programs read stays, whatever is shown
    told = tuple(case._replace(values={key: value for key, value in case.values.items() if key in kept}) for case in cases)
    return SizedComparison(SideBySide(command, shown, asked, told))


def compare_files(
    files: Sequence[str | os.PathLike[str]], *, columns: Sequence[str] = (), presets: Sequence[str] = (), gpu: str | None = None
) -> SizedComparison:
    """Every scenario of some sizing files, every run and server of launch files (on `gpu`), side by side."""
    from memcalc.sizing.checking import read_scenarios, size_scenario

    subjects = Subjects(presets)
    named = [each for file in files for each in read_scenarios(os.fspath(file), "", subjects, gpu)]
    if len(named) > MAX_CASES:
        raise InputError(f"{len(named)} scenarios; at most {MAX_CASES} are compared", place="compare")
    shown = tuple(columns or COLUMNS["check"])
    several = len({each.file for each in named}) > 1
    cases = []
    for each in named:
        answer = size_scenario(each, subjects)
        title = f"{os.path.basename(each.file)}: {each.name}" if several else each.name
        cases.append(ComparedCase(title, {}, "", _values(answer, shown)))
    return SizedComparison(SideBySide("check", shown, {}, tuple(cases)))


def _checked(vary: Values, settings: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """What is varied: something, not what is settled, and not too much of it."""
    asked = {name: tuple(values) for name, values in vary.items()}
    if not asked:
        raise SpecError("nothing is varied: give settings with the values to compare, such as zero=1,2,3", "vary")
    count = 1
    for name, values in asked.items():
        if not values:
            raise SpecError(f"{name} without a value", "vary")
        if settings.get(name) is not None:
            raise SpecError(f"{name} is varied; leave it out, or add its value there", name, "vary")
        count *= len(values)
    if count > MAX_CASES:
        raise SpecError(f"{count:,} combinations; at most {MAX_CASES} are compared", "vary")
    return asked


def _shown(command: str, cases: Sequence[ComparedCase]) -> tuple[str, ...]:
    """The columns where nobody asked for any: the step's time in place of the peak, which is part of what is needed, where
    some case is timed."""
    timed = command == "train" and any(case.values.get(STEP) is not None for case in cases)
    return tuple(STEP if timed and column == "per_gpu.peak" else column for column in COLUMNS[command])


def _said(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def _case(asked: Invocation, varied: dict[str, Any], columns: Sequence[str]) -> tuple[ComparedCase, MemcalcError | None]:
    name = ", ".join(f"{key} {word(value)}" for key, value in varied.items())
    try:
        values = _values(_sized(asked), columns)
    except MemcalcError as error:
        return ComparedCase(name, varied, str(asked), dict.fromkeys(columns), str(error)), error
    return ComparedCase(name, varied, str(asked), values), None


def _sized(asked: Invocation) -> Answer:
    if asked.command == "train":
        from memcalc.sizing.training import size_training

        return size_training(asked.model, asked.gpu, presets=asked.presets, **asked.settings)
    from memcalc.sizing.serving import size_serving

    return size_serving(asked.model, asked.gpu, presets=asked.presets, **asked.settings)


def _values(answer: Answer, columns: Sequence[str]) -> dict[str, Any]:
    """The keys of an answer's document. No change is looked for that would make it fit.

    A key that the document lacks is refused, but for those that only some answers have: None.
    """
    from memcalc.report.json import MISSING, looked_up

    document = answer.document
    found = {}
    for column in columns:
        value = looked_up(document, column)
        if value is MISSING and column.partition(".")[0] not in SOMETIMES:
            _refuse(document, column)
        if isinstance(value, (dict, list)):
            keys = ", ".join(list(value)[:12]) if isinstance(value, dict) else "0, 1, …"
            raise SpecError(f"{column} is no single value; name one of its keys ({keys})", "column")
        found[column] = None if value is MISSING else value
    return found


def _refuse(document: dict[str, Any], column: str) -> NoReturn:
    """There is no such key: what there is."""
    from memcalc.report.json import field

    try:
        field(document, column)
    except InputError as error:
        raise SpecError(str(error).removeprefix("--get: "), "column") from None
    raise SpecError(f"no field {column!r:.80}", "column")


SOMETIMES = ("gpu", "capacity", "speed", "time", "service", "solved")  # roots that only some answers have
