"""What a tensor is to the model, from its name: role, part and layer number.

Names of Hugging Face modules and of GGUF are read by the same table: both say attn, norm, experts. The first row that
is found in a name decides, so the more telling word stands first.
"""

import re

from memcalc.blocks.stored import AUDIO, LANGUAGE, PREDICTION, PROJECTOR, VISION
from memcalc.caches import cached
from memcalc.frozen import NamedTuple


class Place(NamedTuple):
    """Where a tensor belongs."""

    role: str
    layer: int | None
    part: str


_DIGITS = re.compile(r"\d+")
_LAYER = re.compile(r"(?:^|\.)(?:layers?|blk|blocks?|h|resblocks)\.(\d+)\.")

# part ← what its tensors' names hold
PARTS = tuple(
    (part, re.compile(pattern))
    for part, pattern in (
        (PREDICTION, r"(?:^|[._])nextn\.|(?:^|\.)mtp(?:_|\.)"),
        (PROJECTOR, r"(?<!vocab_)projector|embed_vision|embed_audio|vision_embed_tokens|^mm[._]|vision_adapter|merger"),
        (VISION, r"vision|visual|(?:^|\.)v\.(?:blk|patch|position|pre|post)|image_newline|patch_embed"),
        (AUDIO, r"audio|^a\.(?:blk|conv|position)|speech"),
    )
)

# role ← what is found in a name; the first row found decides
RULES = tuple(
    (role, re.compile(pattern))
    for role, pattern in (
        ("other", r"(?:per_layer_|altup|laurel)(?!.*norm)|token_type|rope_freqs|rope_factors|rotary_emb|inv_freq"),
        ("other", r"(?:attn|ffn|mlp)_hc|hyper_connection|hc_head"),
        ("projector", r"(?:^|\.)project_(?:in|out)\."),
        ("norm", r"(?i:norm)|(?:^|[._])ln(?:_|\d|\.)"),
        ("position", r"wpe|position_em|embed_positions|pos_emb"),
        ("embedding", r"embed_tokens|word_embeddings|(?:^|\.)wte\.|embed_in|tok_embeddings|token_embd|(?:^|\.)shared\.|"
                      r"embeddings\.weight"),
        ("head", r"lm_head|embed_out|^output\.(?:weight|bias)|^score\.|classifier|^cls\.predictions|"
                 r"^vocab_(?:transform|projector)"),
        ("router", r"(?:mlp|block_sparse_moe|feed_forward|moe|ffn|mixer)\.(?:gate|router)\.|router|shared_expert_gate|gate_inp|"
                   r"score_correction|exp_probs|correction_bias|tid2eid"),
        ("mlp", r"shared_experts?\.|shared_mlp|_shexp"),
        ("experts", r"experts?[._]|_exps|_chexp|(?:input|output)_linear"),
        ("linear-attention", r"linear_attn|linear_attention|delta|kda"),
        ("attention", r"(?:^|[._])(?:q|k|v|o)_proj|qkv_proj|attn\."),
        ("mlp", r"(?:^|\.)(?:up|down|gate|gate_up)_proj|latent_proj|dense_(?:h|4h)_to"),
        ("state-space", r"mamba|ssm_|shortconv|(?:^|\.)conv\.(?:conv|in_proj|out_proj)\.|(?:^|\.)mixer\.|A_log|dt_proj|"
                        r"temporal_block|rg_lru"),
        ("attention", r"attn|attention|sinks|query_key_value|Wqkv|EncDec|SelfAttention"),
        ("mlp", r"mlp|ffn|feed_forward|(?:^|\.)fc\d?|DenseReluDense|intermediate|dense"),
    )
)  # fmt: skip


def place(name: str) -> Place:
    """The place of a tensor of that name.

    >>> place("model.layers.3.self_attn.q_proj.weight")
    Place(role='attention', layer=3, part='language')
    >>> place("blk.3.ffn_gate_exps.weight").role, place("model.layers.3.mlp.gate.weight").role
    ('experts', 'router')
    """
    found = _LAYER.search(name)
    layer = int(found[1][:9]) if found else None
    role, part = _kind(_DIGITS.sub("0", name))
    return Place(role, layer, part)


@cached(4096)
def _kind(pattern: str) -> tuple[str, str]:
    """Role and part of all names that differ only in their numbers."""
    part = next((part for part, rule in PARTS if rule.search(pattern)), LANGUAGE)
    role = next((role for role, rule in RULES if rule.search(pattern)), "other")
    if part == PROJECTOR and role != "norm":
        return "projector", part
    return ("other" if role == "position" and part != LANGUAGE else role), part
