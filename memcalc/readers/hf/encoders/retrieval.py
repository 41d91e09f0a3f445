"""BERT put to finding passages and spans: DPR, Splinter."""

from memcalc.blocks.architecture import Architecture, Named
from memcalc.blocks.ledger import linear
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.readers.hf.common import layer_norm
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.encoders.heads import Heads, under
from memcalc.readers.hf.encoders.layers import bert_but, body


def dpr(c: Config) -> Architecture:
    """One vector a text, projected where `projection_dim` says so; a reader scores spans and passages (modeling_dpr.py)."""
    hidden, width = c.integer("hidden_size"), c.integer("projection_dim", low=0)
    vector: Named = (("projection", Projection(hidden, width, bias=True, role="head")),) if width else ()
    spans = (*linear("spans", "head", width or hidden, 2, bias=True), *linear("passage", "head", width or hidden, 1, bias=True))
    kinds: dict[str, Named] = {
        "DPRContextEncoder": vector, "DPRQuestionEncoder": vector, "DPRReader": (*vector, ("scores", Plain(spans)))
    }  # fmt: skip
    return under(c, body(c), Heads(vector, False, kinds))


def splinter(c: Config) -> Architecture:
    """A span's ends are found by what stands for the question: four transforms and two bilinear scores."""
    hidden = c.integer("hidden_size")
    transforms = tuple(
        weight
        for name in ("query_start", "query_end", "start", "end")
        for weight in (*linear(name, "head", hidden, hidden, bias=True), *layer_norm(c).weights())
    )
    scores = (*linear("start_scores", "head", hidden, hidden), *linear("end_scores", "head", hidden, hidden))
    spans: Named = (("spans", Plain(transforms + scores)),)
    return under(c, body(c), Heads((), False, {"Model": (), "QuestionAnswering": spans, "PreTraining": spans}))


FAMILIES = {
    "dpr": Family(dpr, bert_but(projection_dim=0)),
    "splinter": Family(splinter, bert_but()),
}
