"""How tokens are guessed beside a model that serves, method by method; what a head is made of is memcalc.blocks.draft_heads."""

from typing import NamedTuple

from memcalc.formulas.formula import EXACT, formula


class DraftMethod(NamedTuple):
    """`guesses`: tokens a step where nobody says. `head`: it reads the model's hidden states, as no model of its own does."""

    name: str
    note: str
    guesses: int = 4
    head: bool = True
    weights: bool = True
    at_once: bool = False  # one pass makes all guesses
    tables: int = 0  # of the model's token table and head, that its class has too until it is given the model's


METHODS: dict[str, DraftMethod] = {
    row.name: row
    for row in (
        DraftMethod("model", "a smaller model with a cache of its own", head=False),
        DraftMethod("mtp", "the model's own prediction layers", tables=2),
        DraftMethod("eagle", "EAGLE 1 and 2: a layer behind a matrix that joins hidden state and embedding", tables=2),
        DraftMethod("eagle3", "EAGLE 3: a layer that reads hidden states of three depths and the embedding, a head of its own",
                    tables=1),
        DraftMethod("dflash", "DFlash: layers that guess a block at once, from several depths", 15, at_once=True),
        DraftMethod("medusa", "Medusa: a residual block and a head for each token guessed", guesses=5, at_once=True),
        DraftMethod("ngram", "looked up in the prompt: no weights, no cache", head=False, weights=False),
        DraftMethod("suffix", "looked up in earlier answers: no weights, no cache", head=False, weights=False),
    )
}  # fmt: skip
SPELLINGS = {"eagle2": "eagle", "eagle1": "eagle", "eagle-3": "eagle3", "eagle-2": "eagle", "n-gram": "ngram", "nextn": "mtp",
             "prompt-lookup": "ngram", "lookup": "ngram"}  # fmt: skip


def draft_method(word: str) -> DraftMethod | None:
    """The method that a word names; None: it names a model.

    >>> draft_method("EAGLE3").name, draft_method("eagle2").name, draft_method("qwen3-0.6b")
    ('eagle3', 'eagle', None)
    """
    folded = word.strip().lower().replace("_", "-")
    found = METHODS.get(SPELLINGS.get(folded, folded))
    return None if found is None or found.name == "model" else found


@formula("vllm", "v1/spec_decode/llm_base_proposer.py: hidden states, ids, positions and a range, as long as a pass", EXACT)
def draft_buffers_bytes(tokens: int, hidden: int, bytes_per_value: int) -> int:
    """What a draft is fed from: hidden states of a whole pass, token ids and a range in int32, positions in int64.

    tokens × (hidden × bytes_per_value + 4 + 4 + 8)      Returns bytes [B].

    >>> draft_buffers_bytes(8192, 4096, 2) // 2**20
    64
    """
    return tokens * (hidden * bytes_per_value + 4 + 4 + 8)


def draft_tables_bytes(tables: int, vocabulary: int, hidden: int, shards: int, bytes_per_value: int) -> int:
    """A draft's own token table and head, which are the model's once it is given those.

    tables × ceil(vocabulary / shards) × hidden × bytes_per_value      Returns bytes [B].

    SGLang sizes its cache while both are there (srt/speculative/eagle_worker_v2.py, alloc_memory_pool, behind the scheduler's
    init_target_memory_pool; sgl-project/sglang, issue 36452).

    >>> round(draft_tables_bytes(2, 248_320, 5120, 1, 2) / 1e9, 2)
    5.09
    """
    return tables * -(-vocabulary // shards) * hidden * bytes_per_value
