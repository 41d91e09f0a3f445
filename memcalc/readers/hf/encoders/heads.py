"""What the classes of an encoder's family put on it: the masked-language head, poolers, classifiers."""

from collections.abc import Mapping
from dataclasses import replace

from memcalc.blocks.architecture import Architecture, Named, Part
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Weight
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.blocks.task_head import Pooler
from memcalc.blocks.unread import Unread
from memcalc.frozen import NamedTuple
from memcalc.readers.hf.common import architecture, layer_norm
from memcalc.readers.hf.config import Config
from memcalc.readers.hf.tasks import classification, classifier, task, uncounted

MASKED_LM = ("", "MaskedLM", "CausalLM", "LMHeadModel")
CLASSES = ("SequenceClassification", "MultipleChoice", "TokenClassification", "QuestionAnswering")


class Heads(NamedTuple):
    """The blocks after the encoder: of the classes that predict tokens, and of every other by what it is for (`task`)."""

    masked: Named
    tied: bool
    kinds: Mapping[str, Named]

    def but(self, **kinds: Named) -> "Heads":
        """The same with other blocks for some kinds."""
        return self._replace(kinds={**self.kinds, **kinds})


def under(c: Config, part: Part, heads: Heads) -> Architecture:
    """The encoder under the head of the class that its config names."""
    kind = task(c)
    warnings: tuple[str, ...] = ()
    if predicts := kind in MASKED_LM:
        blocks = heads.masked
    elif kind in heads.kinds:
        blocks = heads.kinds[kind]
    else:
        blocks, warnings = (), uncounted(c)
    tied = heads.tied and (predicts or kind == "PreTraining")
    return replace(architecture(c, (replace(part, exit=part.exit + blocks),), tied=tied), warnings=warnings)


def usual(
    c: Config, masked: Named, *, tied: bool, pooler: bool = True, dropped: bool = False, pooled: int = 0, labels: int = 2
) -> Heads:
    """BERT's: a pooler (one of the base model's, or the classification head's own dense layer), then the scores.

    `pooler`: the base model has one. `dropped`: a dropout stands before it (RoBERTa). `pooled`: its width, hidden_size if not
    said.
    """
    hidden = c.integer("hidden_size")
    width = pooled or hidden
    dense: Named = (("pooler", Pooler(width, width)),)
    kinds = {kind: classification(c, hidden, kind, labels, dropped=dropped) or () for kind in CLASSES}
    if width != hidden:
        kinds |= {kind: dense + _scores(kinds[kind], width) for kind in CLASSES[:2]}
    next_sentence: Named = (("next_sentence", classifier(hidden, 2)),)
    kinds |= {"Model": dense if pooler else (), "NextSentencePrediction": dense + next_sentence}
    if pooler:
        kinds["PreTraining"] = masked + dense + next_sentence
    return Heads(masked, tied, kinds)


def pooled_always(heads: Heads, hidden: int, *but: str) -> Heads:
    """The same where every class but some keeps the base model's pooler, read or not."""
    unread: Named = (("unread_pooler", Unread(dense_weights(hidden, hidden).tensors)),)
    plain = {kind: blocks for kind, blocks in heads.kinds.items() if kind in but or kind == "Model"}
    return Heads(unread + heads.masked, heads.tied, {**{k: unread + b for k, b in heads.kinds.items()}, **plain})


def headless(c: Config, *but: str, kept: bool = False) -> Heads:
    """BERT's classes without one that predicts words; a config that names no class is the bare model.

    `kept`: every class has the base model's pooler, which those in `but` read.
    """
    heads = usual(c, (), tied=False)
    bare = heads.kinds["Model"]
    return (pooled_always(heads, c.integer("hidden_size"), *but) if kept else heads)._replace(masked=bare)


def masked_lm(
    c: Config, *, tied: bool, width: int = 0, size: int = 0, bias: bool = True, doubled: bool = True, activation: str = ""
) -> Named:
    """norm(act(W x + b)), then the vocabulary. `width`: of the embedding where it is not hidden_size.

    `doubled`: a bias of the head's own is the decoder's too; untied, the library keeps both.
    """
    hidden, vocabulary = size or c.integer("hidden_size"), c.integer("vocab_size")
    width = width or hidden
    made = activation or c.text("hidden_act")
    both: Named = (("head_bias", Unread((Weight("bias", "head", (vocabulary,)),))),)
    return (
        ("head_transform", Projection(hidden, width, bias=True, activation=made, role="head")),
        ("head_norm", layer_norm(c, size=width)),
        ("head", Head(vocabulary, width, tied=tied, bias=bias, upcast=False)),
        *(both if doubled and bias and not tied else ()),
    )


def dense_weights(inputs: int, outputs: int, role: str = "head", *, bias: bool = True) -> Plain:
    """A linear layer that is stored and never read, or read in a way that is not modelled."""
    shift = (Weight("bias", role, (outputs,)),) if bias else ()
    return Plain((Weight("weight", role, (outputs, inputs)), *shift))


def _scores(blocks: Named, width: int) -> Named:
    """The last of some blocks, reading another width."""
    name, last = blocks[-1]
    return ((name, replace(last, size=width)),)  # type: ignore[type-var]


def bert_heads(c: Config, *, pooler: bool = True) -> Heads:
    tied = tied_of(c)
    dropped = "roberta" in c.text("model_type", "")
    return usual(c, masked_lm(c, tied=tied), tied=tied, pooler=pooler, dropped=dropped)


def tied_of(c: Config) -> bool:
    return c.flag("tie_word_embeddings")
