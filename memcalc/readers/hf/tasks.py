"""What the class named in a config's `architectures` puts on top of an encoder."""

from collections.abc import Mapping

from memcalc.blocks.architecture import Named
from memcalc.blocks.projection import Projection
from memcalc.readers.hf.config import MAX_SIZE, Config


def task(c: Config) -> str:
    """ "MaskedLM" for BertForMaskedLM, "Model" for BertModel, "" where the config names no class."""
    classes = c.entries("architectures", [], of=str)
    if not classes:
        return ""
    _, found, purpose = classes[0].partition("For")
    if found:
        return str(purpose)
    return next((known for known in ("LMHeadModel", "EncoderModel", "Model") if classes[0].endswith(known)), classes[0])


def label_count(c: Config, default: int = 2) -> int:
    """Outputs of a classifier: the library derives them from `id2label` where that is saved."""
    labels = c.raw("id2label")
    if isinstance(labels, Mapping):
        if not 0 < len(labels) <= MAX_SIZE:
            raise c.error("id2label", "must name at least one label")
        return len(labels)
    return c.integer("num_labels", default)


def dense(size: int, activation: str = "tanh", *, pooled: bool = True) -> Projection:
    """Pooler, or the first layer of a head: one square matrix with bias."""
    return Projection(size, size, bias=True, activation=activation, role="head", pooled=pooled)


def classifier(size: int, labels: int) -> Projection:
    return Projection(size, labels, bias=True, role="head", pooled=True)


def classification(c: Config, size: int, kind: str, labels: int = 2) -> Named | None:
    """The blocks of the usual classification tasks; None where the task is not one of them."""
    labels = label_count(c, labels)
    if kind == "SequenceClassification":
        return (("pooler", dense(size)), ("classifier", classifier(size, labels)))
    if kind == "MultipleChoice":
        return (("pooler", dense(size)), ("classifier", classifier(size, 1)))
    if kind in ("TokenClassification", "QuestionAnswering"):
        return (("classifier", classifier(size, labels)),)
    return None


def uncounted(c: Config) -> tuple[str, ...]:
    """The warning for a class whose head is not modelled."""
    name = c.entries("architectures", [], of=str)[0]
    return (f"{name:.80}: the head of this class is not known and not counted",)
