"""What the class named in a config's `architectures` puts on top of a model."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from memcalc.blocks.architecture import Architecture, Named, Part
from memcalc.blocks.head import Head
from memcalc.blocks.task_head import EmbeddingHead, Pooler, TaskHead
from memcalc.caches import cached
from memcalc.errors import Unsupported
from memcalc.formulas.objectives import HEADED, SCORED
from memcalc.readers.hf.config import MAX_SIZE, Config

# What a class is for whose name says so by its ending alone, the longer endings first.
ENDINGS: Mapping[str, str] = {
    **dict.fromkeys(("MTModel", "EncoderDecoderModel"), "ConditionalGeneration"),
    "ModelWithLMHead": "LMHeadModel",
    **{name: name for name in ("LMHeadModel", "EncoderModel", "Model")},
}


def task(c: Config) -> str:
    """ "MaskedLM" for BertForMaskedLM, "Model" for BertModel, "" where the config names no class."""
    classes = c.entries("architectures", [], of=str)
    if not classes:
        return ""
    if found := re.search(r"For([A-Z]\w*)$", classes[0]):  # not the one of RoFormer
        return str(found[1])
    return next((purpose for ending, purpose in ENDINGS.items() if classes[0].endswith(ending)), classes[0])


def label_count(c: Config, default: int = 2) -> int:
    """Outputs of a classifier: `num_labels`, or as many as `id2label` names (configuration_utils.py, `num_labels`)."""
    labels = c.raw("id2label")
    if isinstance(labels, Mapping) and not c.written("num_labels"):
        if not 0 < len(labels) <= MAX_SIZE:
            raise c.error("id2label", "must name at least one label")
        return len(labels)
    return c.integer("num_labels", default)


def classifier(size: int, labels: int) -> TaskHead:
    return TaskHead(size, labels)


def classification(c: Config, size: int, kind: str, labels: int = 2, *, dropped: bool = False) -> Named | None:
    """The blocks of the usual classification tasks; None where the task is not one of them.

    `dropped`: a dropout stands before the pooler.
    """
    labels, pooler = label_count(c, labels), Pooler(size, size, dropped=dropped)
    if kind == "SequenceClassification":
        return (("pooler", pooler), ("classifier", classifier(size, labels)))
    if kind == "MultipleChoice":
        return (("pooler", pooler), ("classifier", classifier(size, 1)))
    if kind in ("TokenClassification", "QuestionAnswering"):
        return (("classifier", TaskHead(size, labels, dropout=_dropout(c) if kind == "TokenClassification" else 0.0)),)
    return None


def _dropout(c: Config) -> float:
    """Of a classifier's input; BERT's line says it for all hidden states unless the classifier has its own."""
    return c.number("classifier_dropout", c.number("hidden_dropout_prob", 0.1))


def uncounted(c: Config) -> tuple[str, ...]:
    """The warning for a class whose head is not modelled."""
    name = c.entries("architectures", [], of=str)[0]
    return (f"{name:.80}: the head of this class is not known and not counted",)


LANGUAGE_MODELS = (
    "", "CausalLM", "LMHeadModel", "ConditionalGeneration", "MaskedLM", "PreTraining", "VisionText2Text", "SpeechToText",
    "BertGenerationDecoder",    "NemotronH_Omni_Reasoning_V3",
)  # fmt: skip

# Bare by name alone: the inner language model is one with a head; and one that answers in words.
KEEP_THE_HEAD = ("Blip2Model", "BlipForQuestionAnswering")


def _vector(c: Config, size: int) -> Named:
    from memcalc.blocks.projection import Projection

    return (("vector", Projection(size, c.integer("embedding_dim", 128), bias=True)),)


# What replaces a decoder's language-model head, of so many inputs: (config, inputs) -> the blocks (transformers
# modeling_layers.py, Generic…: the scores of sequences have no bias).
TASK_HEADS: Mapping[str, Callable[[Config, int], Named]] = {
    "Model": lambda c, size: (),
    "SequenceClassification": lambda c, size: (("classifier", TaskHead(size, label_count(c), bias=False)),),
    "TokenClassification": lambda c, size: (
        (
            "classifier",
            TaskHead(size, label_count(c), bias=c.flag("token_classification_bias", True), dropout=_dropout(c)),
        ),
    ),
    "QuestionAnswering": lambda c, size: (("classifier", TaskHead(size, 2)),),
    "Retrieval": _vector,
}


def headed(c: Config, model: Architecture) -> Architecture:
    """A decoder, read with its language-model head, under the head of the class that its config names.

    A class that is not known keeps the language-model head, with a warning.
    """
    kind = "" if any(name in KEEP_THE_HEAD for name in c.entries("architectures", [], of=str)[:1]) else task(c)
    kind = "Model" if kind.endswith("Model") and kind not in LANGUAGE_MODELS else kind
    if kind in LANGUAGE_MODELS or not model.predicted:
        return model
    if kind not in TASK_HEADS:
        (class_name, *_) = c.entries("architectures", [], of=str)
        said = f"{class_name:.80}: the head of this class is not known; a language-model head is counted in its place"
        return replace(model, warnings=(*model.warnings, said))
    parts = tuple(_reheaded(part, lambda size: TASK_HEADS[kind](c, size)) for part in model.parts)
    return replace(model, parts=parts, tied=False)


@cached(64)
def under_objective(architecture: Architecture, objective: str | None, labels: int) -> Architecture:
    """A model under the head of what it is trained for. Raises Unsupported for one whose class must say it."""
    if objective in SCORED and not _writes(architecture):
        raise Unsupported(f"{objective} scores the tokens of answers: {architecture.model_type} writes none")
    heads = (TaskHead, EmbeddingHead)
    if objective not in HEADED or any(isinstance(block, heads) for part in architecture.parts for _, block in part.exit):
        return architecture
    names = {part.name for part in architecture.parts}
    if architecture.predicted and not names.intersection(("encoder", "decoder")):
        blocks = partial(_blocks_for, objective, 1 if objective == "reward" else labels)
        return replace(architecture, parts=tuple(_reheaded(part, blocks) for part in architecture.parts), tied=False)
    if objective == "embed" and not architecture.predicted and architecture.parts[-1].name != "decoder":
        *others, last = architecture.parts
        head = ("pooling", EmbeddingHead(architecture.hidden))
        return replace(architecture, parts=(*others, replace(last, exit=(*last.exit, head))))
    raise Unsupported(
        f"the head of {architecture.model_type} for {objective} depends on its class: name it under architectures in its "
        f"config.json (…Model, …ForSequenceClassification, …ForTokenClassification)"
    )


def _writes(architecture: Architecture) -> bool:
    """Whether a model predicts next tokens: it has a head, and attention that does not look ahead leads there."""
    part = architecture.parts[-1]
    traits = [block.traits for stack in part.stacks for layer in stack.layers for _, block in layer.blocks]
    attention = [each for each in traits if each.heads]
    return architecture.predicted > 0 and (not attention or any(each.causal for each in attention))


def _blocks_for(objective: str, labels: int, size: int) -> Named:
    """What takes the place of a decoder's language-model head (transformers modeling_layers.py, GenericFor…)."""
    if objective == "embed":
        return (("pooling", EmbeddingHead(size, last=True)),)
    return (("classifier", TaskHead(size, labels, bias=objective == "token-classify")),)


def _reheaded(part: Part, blocks: Callable[[int], Named]) -> Part:
    """A part whose language-model head, with what is named after it (head_scale), gives way to other blocks."""
    if not any(isinstance(block, Head) for _, block in part.exit):
        return part
    kept = ((name, block) for name, block in part.exit if not name.startswith("head_"))
    blocks_of = tuple(
        new for name, block in kept for new in (blocks(block.size) if isinstance(block, Head) else ((name, block),))
    )
    return replace(part, exit=blocks_of)
