"""Multi-head latent attention (DeepSeek V2 and later): keys and values are rebuilt from one small latent a token."""

from dataclasses import dataclass

from memcalc.blocks.ledger import Cache, Weight, linear, prefixed
from memcalc.blocks.norm import Norm
from memcalc.blocks.profile import Profile
from memcalc.blocks.tape import Tape, Var
from memcalc.errors import Unsupported


@dataclass(frozen=True)
class SparseIndexer:
    """DeepSeek Sparse Attention's indexer: scores every earlier token and keeps the best for the attention to read.

    Its queries come from the latent query, its one key a token (`head_dim` wide, normalised) is cached beside the
    attention's latent. transformers runs it without gradients, so it saves nothing for the backward pass.
    """

    hidden: int
    q_lora_rank: int
    heads: int
    head_dim: int
    selected_tokens: int  # tokens that a query attends to

    def weights(self) -> tuple[Weight, ...]:
        out = linear("q", "attention", self.q_lora_rank, self.heads * self.head_dim)
        out += linear("k", "attention", self.hidden, self.head_dim)
        out += prefixed("k_norm", Norm(self.head_dim, "layer").weights())
        return out + linear("head_weights", "attention", self.hidden, self.heads)


@dataclass(frozen=True)
class LatentAttention:
    """Softmax attention whose keys and values are up-projections of a latent of `kv_lora_rank` a token.

    A query and key head is `nope_head_dim` without position and `rope_head_dim` with rotary position; the rotary part
    of the key is one vector that all heads share. Queries pass a latent of `q_lora_rank` too, or come from one full
    projection where that is 0. Generation keeps `latent_size` numbers a token and layer when the up-projection is
    absorbed into queries and outputs, `expanded_size` otherwise.
    """

    hidden: int
    heads: int
    kv_lora_rank: int
    nope_head_dim: int
    rope_head_dim: int
    v_head_dim: int
    q_lora_rank: int = 0  # 0: one full query projection
    bias: bool = False  # of the two down-projections and the output
    indexer: SparseIndexer | None = None
    shares_selection: bool = False  # reads the tokens that an earlier layer's indexer selected (GLM-5.2)
    window: int | None = None
    causal: bool = True
    rotary: bool = True
    dropout: float = 0.0
    epsilon: float = 1e-6

    @property
    def head_dim(self) -> int:
        """Width of a query or key head."""
        return self.nope_head_dim + self.rope_head_dim

    @property
    def query_size(self) -> int:
        return self.heads * self.head_dim

    @property
    def output_size(self) -> int:
        """Width of the attention result that the output projection reads."""
        return self.heads * self.v_head_dim

    @property
    def latent_size(self) -> int:
        """Numbers cached a token: the latent and the shared rotary key."""
        return self.kv_lora_rank + self.rope_head_dim

    @property
    def expanded_size(self) -> int:
        """Numbers a token of all keys and values, as engines that do not absorb the up-projection cache them."""
        return self.query_size + self.output_size

    def weights(self) -> tuple[Weight, ...]:
        out = self._queries() + self._keys_and_values()
        out += linear(
            "output",
            "attention",
            self.output_size,
            self.hidden,
            bias=self.bias,
            cut="inputs",
            sections=((self.heads, self.v_head_dim),),
        )
        return out + prefixed("indexer", self.indexer.weights()) if self.indexer else out

    def cache(self) -> tuple[Cache, ...]:
        """The absorbed form, which every rank holds whole; and the keys of this layer's indexer."""
        index = (Cache("index keys", 0, self.indexer.head_dim),) if self.indexer else ()
        return (Cache("latent", 0, self.latent_size, self.window), *index)

    def _queries(self) -> tuple[Weight, ...]:
        sections = ((self.heads, self.head_dim),)
        if not self.q_lora_rank:
            return linear("q", "attention", self.hidden, self.query_size, cut="outputs", sections=sections)
        out = linear("q_down", "attention", self.hidden, self.q_lora_rank, bias=self.bias)
        out += prefixed("q_norm", Norm(self.q_lora_rank, epsilon=self.epsilon).weights())
        return out + linear("q_up", "attention", self.q_lora_rank, self.query_size, cut="outputs", sections=sections)

    def _keys_and_values(self) -> tuple[Weight, ...]:
        width = self.nope_head_dim + self.v_head_dim
        out = linear("kv_down", "attention", self.hidden, self.latent_size, bias=self.bias)
        out += prefixed("kv_norm", Norm(self.kv_lora_rank, epsilon=self.epsilon).weights())
        return out + linear(
            "kv_up", "attention", self.kv_lora_rank, self.heads * width, cut="outputs", sections=((self.heads, width),)
        )

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with latent attention is not modelled")
