"""What llama.cpp keeps of each sequence: one row an architecture, for what its files' keys do not say.

Sources: src/models/*.cpp, load_arch_hparams of each; src/llama-model.cpp, create_memory: which layers have a cache, which a
state; src/llama-hparams.cpp: how large they are; src/llama-kv-cache*.cpp and llama-memory-*.cpp: what is allocated.
"""

from collections.abc import Callable, Mapping

from memcalc.frozen import NamedTuple
from memcalc.readers.weights.hyperparameters import Hyperparameters

Which = Callable[[Hyperparameters], tuple[bool, ...]]  # a truth for each layer


class Sliding(NamedTuple):
    """Which layers see a window. A pattern in the file goes before `period`."""

    period: int = 0  # every such layer sees all; 0: only the file says which
    full_first: bool = False  # the first of a period, not the last
    window: int = 0  # tokens, where no key says it
    optional: bool = False  # without the key there is none
    fixed: int = 0  # tokens, whatever the key says, unless that is 0
    chunked: bool = False
    which: Which | None = None  # instead of a pattern

    def layers(self, h: Hyperparameters) -> tuple[bool, ...]:
        """Which layers have a window (llama_model_base::load_swa_pattern, llama_hparams::set_swa_pattern)."""
        if self.which:
            return self.which(h)
        key = "attention.sliding_window_pattern"
        if (listed := h.flags(key)) is not None:
            return listed
        if not self.period:
            raise h.error(key, "must list for each layer whether it has a window")
        period = h.whole(key, self.period)
        full = 0 if self.full_first else period - 1
        return tuple(layer < h.layers and (not period or layer % period != full) for layer in range(h.all_layers))

    def tokens(self, h: Hyperparameters) -> int:
        """How many tokens a window has; 0 for none."""
        key = "attention.sliding_window"
        if self.optional or self.fixed or self.window:
            said = h.whole(key, self.window or (0 if self.optional else self.fixed))
        else:
            said = h.whole(key, least=1)
        return self.fixed if said and self.fixed else said


class Indexer(NamedTuple):
    """Keys that a sparse attention looks tokens up by, one head in each such layer."""

    layers: Which
    copies: int = 1  # GLM-5 Next keeps key, gate and pooled value
    values: bool = False  # values as well, which nobody reads (MiniMax M3, whose cache is no latent)


class Keeping(NamedTuple):
    """What one architecture's layers keep, as far as its keys do not say it."""

    cached: bool = True  # False: it reads all tokens at once, and keeps none (encoders, diffusion models)
    sliding: Sliding | None = None
    recurrent: Which | None = None  # layers with a state
    attends: Which | None = None  # layers with a cache; None: all that have no state
    state: str = ""  # which kind: a row of gguf_memory.STATES
    latent: bool = False  # the file may say that keys are a latent, which serves as values too
    indexer: Indexer | None = None
    shared: Callable[[Hyperparameters], int] | None = None  # layers at the end that read the cache of earlier ones
    loops: Callable[[Hyperparameters, int], int] | None = None  # how often a layer that is stored runs, a cache each time
    stored: Callable[[Hyperparameters], int] | None = None  # how many layers are stored, where these are not all that run
    router: bool = False  # one more layer at the end, of one head (Granite Switch)
    predicts: bool = False  # layers that predict further tokens have a cache too
    compressed: bool = False  # DeepSeek V4's entries and unfinished windows
    borrowed: bool = False  # the cache is that of the model that it drafts for


def below(h: Hyperparameters, which: Callable[[int], bool]) -> tuple[bool, ...]:
    """A truth for each layer, false for those that predict further tokens."""
    return tuple(layer < h.layers and which(layer) for layer in range(h.all_layers))


def _main(h: Hyperparameters) -> tuple[bool, ...]:
    return below(h, lambda layer: True)


def _headless(h: Hyperparameters) -> tuple[bool, ...]:
    """Layers without key-value heads are recurrent."""
    return below(h, lambda layer: h.kv_heads[layer] == 0)


def _rest(h: Hyperparameters) -> tuple[bool, ...]:
    return tuple(heads > 0 for heads in h.kv_heads)


def _alone(h: Hyperparameters) -> tuple[bool, ...]:
    """Nemotron-H: a layer is either recurrent, or attends, or is a feed-forward."""
    return below(h, lambda layer: h.kv_heads[layer] == 0 and h.feed_forward[layer] == 0)


def _attends_alone(h: Hyperparameters) -> tuple[bool, ...]:
    recurrent = _alone(h)
    return tuple(not recurrent[layer] and h.feed_forward[layer] == 0 for layer in range(h.all_layers))


def _interval(usual: int) -> Which:
    """Every `usual`-th layer attends, unless the file lists those that do not."""

    def which(h: Hyperparameters) -> tuple[bool, ...]:
        if (listed := h.flags("attention.recurrent_layers")) is not None:
            return below(h, lambda layer: listed[layer])
        every = h.whole("full_attention_interval", usual, least=1)
        return below(h, lambda layer: (layer + 1) % every != 0)

    return which


def _but(recurrent: Which) -> Which:
    def which(h: Hyperparameters) -> tuple[bool, ...]:
        found = recurrent(h)
        return below(h, lambda layer: not found[layer])

    return which


def _typed(usual: Callable[[Hyperparameters, int], bool] | None = None) -> Which:
    """Layers that the file marks as having an indexer of their own."""

    def which(h: Hyperparameters) -> tuple[bool, ...]:
        if (listed := h.flags("attention.indexer.types")) is not None:
            return below(h, lambda layer: listed[layer])
        if usual is None:
            raise h.error("attention.indexer.types", "must say of each layer whether it has an indexer of its own")
        return below(h, lambda layer: usual(h, layer))

    return which


def _glm(h: Hyperparameters, layer: int) -> bool:
    """GLM-5.2, whose context is a million tokens, shares an indexer among four layers; those before it do not."""
    return h.whole("context_length") < 2**20 or layer < 2 or (layer - 2) % 4 == 0


def _hunyuan(h: Hyperparameters) -> tuple[bool, ...]:
    return _typed()(h) if h.whole("attention.indexer.top_k", 0) else (False,) * h.all_layers


def _after_dense(h: Hyperparameters) -> tuple[bool, ...]:
    first = h.whole("leading_dense_block_count", 0)
    return tuple(layer >= first for layer in range(h.all_layers))


def _exaone4(h: Hyperparameters) -> tuple[bool, ...]:
    """Only the model of 64 layers (32B) has windows."""
    return Sliding(4).layers(h) if h.layers == 64 else (False,) * h.all_layers


def _gemma3n(h: Hyperparameters) -> int:
    return max(0, h.all_layers - 20)


def _hierarchy(h: Hyperparameters, layer: int) -> int:
    """HRM-Text: the low stack runs in every low cycle of every high one, the high stack once after them."""
    each, high, low = (h.whole(f"hrm.{key}", least=1) for key in ("layers_per_stack", "h_cycles", "l_cycles"))
    return high * low if layer < each else high


NONE = Keeping(cached=False)
LATENT = Keeping(latent=True)
KDA = Keeping(latent=True, recurrent=_headless, attends=_rest, state="kda")
DELTA = Keeping(recurrent=_interval(4), attends=_but(_interval(4)), state="ssm-grouped")
HEADLESS = Keeping(recurrent=_headless, attends=_rest, state="ssm-grouped")
ALONE = Keeping(recurrent=_alone, attends=_attends_alone, state="ssm-grouped")
WKV = Keeping(recurrent=_main, attends=lambda h: (False,) * h.all_layers, state="wkv")
SHORT = Keeping(recurrent=_headless, attends=_rest, state="shortconv")
LISTED = Keeping(sliding=Sliding())

# No logits and no copy of the token table for them …
BERTS = ("bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3", "eurobert",
         "wavtokenizer-dec")  # fmt: skip
# … or the copy alone.
EMBEDDERS = ("gemma-embedding", "t5encoder", "llama-embed", "pockettts")
DIFFUSION = ("dream", "llada", "llada-moe", "rnd1")

SPECIAL: Mapping[str, Keeping] = {
    **dict.fromkeys((*BERTS, *DIFFUSION, "gemma-embedding"), NONE),
    **dict.fromkeys(("deepseek2", "mistral4"), LATENT),
    **dict.fromkeys(("mimo2", "step35", "spark2_5", "granite_swa", "maple"), LISTED),
    "afmoe": Keeping(sliding=Sliding(4, optional=True)),
    "mellum": Keeping(sliding=Sliding(4, optional=True)),
    "olmo2": Keeping(sliding=Sliding(4, optional=True)),
    "cohere2": Keeping(sliding=Sliding(4)),
    "muse-glimmer": Keeping(sliding=Sliding(4)),
    "cohere2moe": Keeping(sliding=Sliding(4, full_first=True)),
    "exaone-moe": Keeping(sliding=Sliding(4)),
    "exaone4": Keeping(sliding=Sliding(window=4096, which=_exaone4)),
    "gemma2": Keeping(sliding=Sliding(2, window=4096)),
    "gemma3": Keeping(sliding=Sliding(6, optional=True)),
    "gemma3n": Keeping(sliding=Sliding(5), shared=_gemma3n),
    "gemma4": Keeping(sliding=Sliding(), shared=lambda h: h.whole("attention.shared_kv_layers", 0, most=h.all_layers)),
    "gemma4-assistant": Keeping(sliding=Sliding(), borrowed=True),
    "gpt-oss": Keeping(sliding=Sliding(2)),
    "laguna": Keeping(sliding=Sliding(4, full_first=True, optional=True)),
    "llama4": Keeping(sliding=Sliding(4, fixed=8192, chunked=True)),
    "plamo3": Keeping(sliding=Sliding(8, optional=True)),
    "smallthinker": Keeping(sliding=Sliding(4, full_first=True, optional=True, fixed=4096)),
    "dflash": Keeping(sliding=Sliding(optional=True)),
    **dict.fromkeys(("mamba",), Keeping(recurrent=_main, attends=lambda h: (False,) * h.all_layers, state="ssm")),
    "mamba2": Keeping(recurrent=_main, attends=lambda h: (False,) * h.all_layers, state="ssm-grouped"),
    **dict.fromkeys(("rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"), WKV),
    "jamba": HEADLESS._replace(state="ssm"),
    **dict.fromkeys(("plamo2", "granitehybrid"), HEADLESS),
    "falcon-h1": Keeping(recurrent=_main, attends=_main, state="ssm-grouped"),
    **dict.fromkeys(("nemotron_h", "nemotron_h_moe"), ALONE),
    **dict.fromkeys(("qwen3next", "qwen35", "qwen35moe"), DELTA),
    "qwen4exp": DELTA._replace(state="ssm-history", indexer=Indexer(_but(_interval(4)))),
    "lfm2": SHORT._replace(sliding=Sliding(optional=True, which=_rest)),
    "lfm2moe": SHORT,
    **dict.fromkeys(("kimi-linear", "kimi-k3", "bailingmoe3"), KDA),
    "glm5-next": KDA._replace(attends=_but(_headless), indexer=Indexer(_typed(lambda h, layer: h.kv_heads[layer] > 0), 3)),
    "minimax-01": Keeping(recurrent=_interval(8), attends=_but(_interval(8)), state="lightning"),
    "deepseek32": Keeping(latent=True, indexer=Indexer(_main)),
    "glm-dsa": Keeping(latent=True, indexer=Indexer(_typed(_glm))),
    "dots3note": Keeping(latent=True, sliding=Sliding(), indexer=Indexer(_typed())),
    "hy_v4": Keeping(latent=True, indexer=Indexer(_hunyuan), predicts=True),
    "minimax-m3": Keeping(indexer=Indexer(_after_dense, values=True), predicts=True),
    "deepseek4": Keeping(compressed=True),
    "nanbeige": Keeping(loops=lambda h, layer: h.whole("num_loops", 1, least=1)),
    "hrm_text": Keeping(loops=_hierarchy, stored=lambda h: 2 * h.whole("hrm.layers_per_stack", least=1)),
    "graniteswitch": Keeping(router=True),
}  # fmt: skip

PLAIN = (
    "llama", "deci", "falcon", "grok", "gpt2", "gptj", "gptneox", "mpt", "baichuan", "starcoder", "refact", "bloom",
    "stablelm", "qwen", "qwen2", "qwen2moe", "qwen2vl", "qwen3", "qwen3moe", "qwen3vl", "qwen3vlmoe", "phi2", "phi3",
    "phimoe", "plamo", "codeshell", "orion", "internlm2", "minicpm", "minicpm3", "gemma", "starcoder2", "xverse",
    "command-r", "dbrx", "olmo", "olmoe", "openelm", "arctic", "deepseek", "deepseek2-ocr", "chatglm", "glm4",
    "glm4moe", "bitnet", "t5", "t5encoder", "jais", "jais2", "nemotron", "exaone", "granite", "granitemoe", "chameleon",
    "plm", "bailingmoe", "bailingmoe2", "dots1", "arcee", "ernie4_5", "ernie4_5-moe", "hunyuan-moe", "hunyuan-dense",
    "hunyuan_vl", "hy_v3", "smollm3", "seed_oss", "grovemoe", "apertus", "minimax-m2", "cogvlm", "pangu-embedded",
    "mistral3", "eagle3", "paddleocr", "llama-embed", "maincoder", "talkie", "qwen3tts", "pockettts",
)  # fmt: skip

KEEPING: Mapping[str, Keeping] = {**dict.fromkeys(PLAIN, Keeping()), **SPECIAL}
