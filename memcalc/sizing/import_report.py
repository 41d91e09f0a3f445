"""The report of launch files: what `memcalc import` prints, and what an answer that began with files adds to its own."""

from collections.abc import Sequence
from typing import Any

from memcalc.errors import MemcalcError
from memcalc.report.importing import report, rows
from memcalc.report.report import Report, warned
from memcalc.sizing.importing import LaunchedJob, launched, warnings_of
from memcalc.sizing.subjects import as_model
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.serving import Serving
from memcalc.specs.training import Training

TABLES = {
    "training": tuple(name for name in Training.model_fields if name != "parallelism"),
    "training.parallelism": tuple(Parallelism.model_fields),
    "serving": tuple(Serving.model_fields),
}


def imported(files: Sequence[str], gpu: str | None = None) -> Report:
    """Launch files as a sizing file and as JSON (`jobs[]`, `imported[]`)."""
    if gpu is not None:
        from memcalc.readers.catalogue import accelerator

        gpu = accelerator(gpu).id
    found = [_with_buckets(each) for each in launched(*files)]
    return report([(each.job, each.question) for each in found], [warnings_of(each) for each in found], gpu, TABLES)


def _with_buckets(found: LaunchedJob) -> LaunchedJob:
    """Buckets that are "auto" as the size that they have: a sizing file is read before its model is."""
    question = found.question
    if "auto_buckets" not in question.settings:
        return found
    settings = {name: setting for name, setting in question.settings.items() if name != "auto_buckets"}
    try:
        architecture = as_model(question.model).architecture
    except MemcalcError:
        architecture = None
    if architecture is None:
        warning = "auto buckets are of hidden² elements; of which model is not known, so DeepSpeed's default stands"
        return found._replace(question=question._replace(settings=settings, warnings=(*question.warnings, warning)))
    settings["reduce_bucket_size"] = question.settings["auto_buckets"]._replace(value=architecture.hidden**2)
    return found._replace(question=question._replace(settings=settings))


def with_account(shown: Report, found: LaunchedJob) -> Report:
    """An answer's report with what became of every key of the files that it began with."""
    document: dict[str, Any] = {**shown.document, "imported": rows(found.job, found.question)}
    assumed = tuple(f"launch file: {line}" for line in found.question.assumed)
    return warned(shown._replace(document=document), warnings_of(found), assumed)
