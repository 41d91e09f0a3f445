"""Training objectives beside the next token's cross-entropy: what an example is, which head, which other model. A row each."""

from memcalc.frozen import NamedTuple


class Objective(NamedTuple):
    """One objective. A user's choice changes numbers only through this row."""

    name: str
    note: str
    sequences: int = 1  # of an example that micro-batches count
    head: str = ""  # what takes the place of the language-model head: classifier, pooling; "": nothing does
    scored: bool = False  # by log-probabilities of each sequence's own tokens
    reference: bool = False  # against those that another model gives, unless told otherwise
    likelihood: bool = False  # the chosen sequences' cross-entropy over the same logits is added
    unrelated: bool = False  # answers of other prompts pass the model without a gradient (KTO's estimate of the divergence)
    source: str = ""

    @property
    def passes(self) -> int:
        """Forward passes of the trained model itself, the last of which has a gradient."""
        return 1 + self.unrelated


OBJECTIVES: dict[str, Objective] = {
    row.name: row
    for row in (
        Objective("classify", "a label for each sequence", head="classifier"),
        Objective("token-classify", "a label for each token", head="classifier"),
        Objective("reward", "a score for each of two sequences, chosen and rejected", 2, "classifier"),
        Objective("embed", "one vector a sequence; queries against passages, others' passages as negatives", head="pooling"),
        Objective("dpo", "chosen above rejected, against a reference (Rafailov et al. 2023); IPO and its kin too", 2,
                  scored=True, reference=True, source="trl/trainer/dpo_trainer.py"),
        Objective("kto", "single answers, good or bad, against a reference (Ethayarajh et al. 2024)",
                  scored=True, reference=True, unrelated=True, source="trl/trainer/kto_trainer.py"),
        Objective("orpo", "chosen above rejected by their odds, and the chosen one's likelihood (Hong et al. 2024)", 2,
                  scored=True, likelihood=True, source="trl/experimental/orpo/orpo_trainer.py"),
        Objective("cpo", "chosen above rejected, and the chosen one's likelihood (Xu et al. 2024)", 2,
                  scored=True, likelihood=True, source="trl/experimental/cpo/cpo_trainer.py"),
        Objective("simpo", "chosen above rejected by a margin of mean log-probabilities (Meng et al. 2024)", 2,
                  scored=True, source="trl/experimental/cpo/cpo_trainer.py"),
    )
}  # fmt: skip
SCORED = tuple(row.name for row in OBJECTIVES.values() if row.scored)
REFERRED = tuple(row.name for row in OBJECTIVES.values() if row.reference)
HEADED = tuple(row.name for row in OBJECTIVES.values() if row.head)
# Where the reference's log-probabilities come from
REFERENCES = {
    "frozen": "a copy of the model beside it, divided as parameters are",
    "same": "the model itself with its adapters switched off",
    "precomputed": "a pass over the data before training; nothing beside it",
    "none": "nowhere: the objective goes without",
}
