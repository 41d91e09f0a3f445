"""What the kernels of softmax attention know of it: its heads, which pairs are masked, how scores become probabilities."""

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32
from memcalc.frozen import NamedTuple

# Eager attention's scores: (type they are made in, type of their softmax); 0 is that of queries and keys.
SHIFTED = "less their maximum"
WIDE_SINKS = "beside sinks in fp32"  # joined to them and less their maximum (OpenAI's privacy filter)
SCALED = "scaled by the sink"  # the result, not the scores (Granite SWA)
SCORES = {
    "softmax in fp32": (0, FP32),
    "as computed": (0, 0),  # GPT-2, Falcon, Llama 4
    "in fp32": (FP32, FP32),  # GPT-J, GPT-Neo: queries and keys are cast
    SHIFTED: (0, 0),  # gpt-oss, MiMo V2 Flash
    WIDE_SINKS: (0, FP32),
    SCALED: (0, FP32),
}


class HeadShape(NamedTuple):
    """Heads of queries, and of the keys and values that they share, with the numbers in each."""

    heads: int
    kv_heads: int
    head_dim: int
    v_head_dim: int = 0  # 0: as head_dim

    @property
    def value_dim(self) -> int:
        return self.v_head_dim or self.head_dim

    @property
    def query_size(self) -> int:
        return self.heads * self.head_dim

    @property
    def key_size(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def value_size(self) -> int:
        return self.kv_heads * self.value_dim

    @property
    def output_size(self) -> int:
        """Width of the attention result that the output projection reads."""
        return self.heads * self.value_dim

    @property
    def grouped(self) -> bool:
        """Several query heads share a key head."""
        return self.heads != self.kv_heads

    def on_rank(self, tp: int) -> "HeadShape":
        """Those of one tensor-parallel rank."""
        return self._replace(heads=-(-self.heads // tp), kv_heads=-(-self.kv_heads // tp))

    def repeated(self) -> "HeadShape":
        """A copy of keys and values for every query head."""
        return self._replace(kv_heads=self.heads)


class Mask(NamedTuple):
    """Which keys a query sees."""

    causal: bool = True
    window: int | None = None  # tokens that a sliding-window layer attends to (None: all)
    chunked: bool = False  # the window is an aligned chunk (Llama 4), not a sliding one
    keeps_all: bool = False  # keys outside the window stay in the cache (MiniMax)
    masked: bool = False  # whatever the length, by a mask of each layer's own (sparse attention under an indexer)
    heads: int = 1  # that each have a mask of their own
    by_key: bool = False  # eager attention's is one number a key, whatever the query (LayoutLM)

    def applied(self, p: Profile) -> bool:
        """A mask beyond the causal one, which kernels know without it."""
        return self.masked or p.batch.packed or p.batch.prefix > 0 or (self.window is not None and p.batch.masked)


class Softmax(NamedTuple):
    """From scores to probabilities."""

    scores: str = "softmax in fp32"  # of eager attention: a key of SCORES
    softcap: float | None = None
    sinks: bool = False  # one learned logit a head (gpt-oss)
    dropout: float = 0.0  # on the probabilities

    @property
    def shifted(self) -> bool:
        """sdpa knows neither sinks nor shifted scores: transformers has its own code."""
        return self.sinks or self.scores == SHIFTED


class Core(NamedTuple):
    """One attention between its projections, with the heads of one rank."""

    shape: HeadShape
    mask: Mask = Mask()
    softmax: Softmax = Softmax()
    cross: bool = False  # keys and values come from the encoder
    by_head: bool = False  # query, key and value are copied into the kernel's layout (Whisper)
    joined: bool = False  # queries are made of a rotated and an unrotated part, whose layout the result takes over
    prefix: float = 0.0  # keys before a sequence's own, for each token of it


FIRST, LATER = "first", "later"  # in a stack: the layer that makes T5's bias, and those that read it


class Relative(NamedTuple):
    """A layer's part in its stack's relative bias (memcalc.blocks.attention.relative)."""

    layer: str = ""  # FIRST or LATER
    buckets: int = 0  # of the first layer's table [buckets, heads]

    @property
    def first(self) -> bool:
        return self.layer == FIRST
