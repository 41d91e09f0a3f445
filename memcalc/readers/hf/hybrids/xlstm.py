"""xLSTM (transformers modeling_xlstm): a matrix memory in place of attention."""

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.head import Head
from memcalc.blocks.mixers.mlstm import MatrixLSTM
from memcalc.blocks.norm import Norm
from memcalc.readers.hf.common import decoder, mlp, optional_number, pre_norm
from memcalc.readers.hf.config import Config, Family


def xlstm(c: Config) -> Architecture:
    """Older names of sizes stand beside today's, and must agree with them. The head is never tied."""
    hidden, depth = (_one_of(c, *names) for names in (("hidden_size", "embedding_dim"), ("num_hidden_layers", "num_blocks")))
    c = c.reread(hidden_size=hidden, num_hidden_layers=depth)
    heads, bias = c.integer("num_attention_heads"), c.flag("use_bias")
    if c.text("weight_mode") not in ("single", "fused"):
        raise c.error("weight_mode", "must be single or fused")
    norm = Norm(hidden, bias=bias)
    keys, values = (_width(c, key, hidden, heads) for key in ("qk_dim_factor", "v_dim_factor"))
    memory = MatrixLSTM(hidden, heads, keys, values, bias=bias, chunk=c.integer("chunk_size"))
    multiple = c.integer("ffn_round_up_to_multiple_of")
    width = int((hidden * _factor(c, "ffn_proj_factor") + multiple - 1) // multiple * multiple)
    layer = pre_norm(norm, memory, mlp(c, intermediate=width, bias=bias, activation="silu"), name="linear_attention")
    head = Head(c.integer("vocab_size"), hidden, softcap=optional_number(c, "output_logit_soft_cap"), softcap_wide=True)
    return decoder(c, layer, Norm(hidden), tied=False, head=head)


def _one_of(c: Config, name: str, older: str) -> int:
    value = c.integer(name if c.has(name) else older)
    if c.has(older) and c.integer(older) != value:
        raise c.error(older, f"({c.integer(older)}) must be {name} ({value})")
    return value


def _width(c: Config, key: str, hidden: int, heads: int) -> int:
    """Of all keys, or all values."""
    width = int(hidden * _factor(c, key))
    if width < 1 or width % heads:
        raise c.error(key, f"makes keys or values {width} wide, which {heads} heads do not divide")
    return width


def _factor(c: Config, key: str) -> float:
    value = c.number(key)
    if not 0 < value <= 100:
        raise c.error(key, f"must be above 0 and at most 100, not {value:g}")
    return value


FAMILIES = {
    "xlstm": Family(
        xlstm,
        {
            "num_heads": 8,
            "use_bias": False,
            "weight_mode": "single",
            "qk_dim_factor": 0.5,
            "v_dim_factor": 1.0,
            "ffn_proj_factor": 2.667,
            "ffn_round_up_to_multiple_of": 64,
            "chunk_size": 64,
            "output_logit_soft_cap": 30.0,
        },
    )
}
