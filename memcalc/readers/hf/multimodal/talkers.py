"""What lets Qwen2.5-Omni and Qwen3-Omni speak: a talker that writes codes of sound, and what makes a waveform of them.

Structures follow transformers src/transformers/models/{qwen2_5_omni,qwen3_omni_moe}/.
"""

from collections.abc import Mapping
from typing import Any

from memcalc.blocks.architecture import Layer, Named, Part, Stack
from memcalc.blocks.attention.softmax import attention_of
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.ledger import Weight
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.readers.hf.common import attention, biased_attention, head_norms, mlp, pre_norm, rms
from memcalc.readers.hf.config import MAX_SIZE, Config
from memcalc.readers.hf.mixtures.experts import alternating, experts, sparse_every_nth

TIME_WIDTH = 256  # modeling_qwen2_5_omni.DiTTimestepEmbedding: of the sinusoids of a step of denoising


def qwen2_5_talker(c: Config) -> Part:
    """Qwen 2 over what the thinker thought, which is brought to its own width."""
    hidden, width, norm = c.integer("hidden_size"), c.integer("embedding_size"), rms(c)
    words = c.integer("vocab_size")
    layer = pre_norm(norm, attention(c, query_bias=True), mlp(c))
    return Part(
        "talker",
        entry=(("embedding", Embedding(words, width)), ("input", Projection(width, hidden, bias=True))),
        stacks=(Stack.uniform(layer, c.layers()),),
        exit=(("final_norm", norm), ("codes", Projection(hidden, words))),
    )


def qwen2_5_sound(c: Config) -> tuple[Part, Part]:
    """A diffusion transformer makes a spectrogram of the codes, BigVGAN a waveform of that."""
    return _diffusion(c.sub("dit_config", DIT)), _bigvgan(c.sub("bigvgan_config", BIGVGAN))


def _diffusion(c: Config) -> Part:
    """Norms without scales, which each step of denoising sets; an encoder of the speaker in front."""
    hidden, mel, size, speaker = (c.integer(key) for key in ("hidden_size", "mel_dim", "emb_dim", "enc_dim"))
    heads, head_dim = c.integer("num_attention_heads"), c.integer("head_dim")
    norm = Norm(hidden, "layer", affine=False)
    mixer = attention_of(hidden, heads, heads, head_dim, query_bias=True, output_bias=True, causal=False)
    feed_forward = MLP(hidden, hidden * c.integer("ff_mult"), gated=False, bias=True, activation="gelu")
    layer = Layer(
        (
            ("modulation", Projection(hidden, 6 * hidden, role="norm", bias=True)),
            ("input_norm", norm),
            ("attention", mixer),
            ("post_attention_norm", norm),
            ("mlp", feed_forward),
        )
    )
    inputs = mel + speaker + c.integer("enc_emb_dim") + size
    entry: Named = (
        ("time_up", Projection(TIME_WIDTH, hidden, activation="silu", bias=True)),
        ("time_down", Projection(hidden, hidden, bias=True)),
        ("embedding", Embedding(c.integer("num_embeds") + 1, size)),
        *_speaker(c, mel, speaker),
        ("input", Projection(inputs, hidden, bias=True)),
    )
    end: Named = (
        ("modulation", Projection(hidden, 2 * hidden, role="norm", bias=True)),
        ("output", Projection(hidden, mel, bias=True)),
    )
    return Part("spectrogram", entry=entry, stacks=(Stack.uniform(layer, c.layers()),), exit=end)


def _speaker(c: Config, mel: int, outputs: int) -> Named:
    """ECAPA-TDNN: convolutions over time in which later pieces of the channels see earlier ones, then pooled by attention."""
    widths, kernels = numbers(c, "enc_channels"), numbers(c, "enc_kernel_sizes")
    scale, squeezed, attended = (c.integer(key) for key in ("enc_res2net_scale", "enc_se_channels", "enc_attention_channels"))
    if len(widths) < 2 or len(kernels) != len(widths):
        raise c.error("enc_kernel_sizes", "must have one entry for each of enc_channels, two at least")
    blocks: Named = (("speaker/first", _over_time(mel, widths[0], kernels[0])),)
    for i in range(1, len(widths) - 1):
        width, piece = widths[i], widths[i] // scale
        blocks += (
            (f"speaker/{i}/in", _over_time(widths[i - 1], width)),
            *((f"speaker/{i}/piece{j}", _over_time(piece, piece, kernels[i])) for j in range(scale - 1)),
            (f"speaker/{i}/out", _over_time(width, width)),
            (f"speaker/{i}/squeeze", _over_time(width, squeezed)),
            (f"speaker/{i}/excite", _over_time(squeezed, width)),
        )
    last = widths[-1]
    return (
        *blocks,
        ("speaker/joined", _over_time(last, last, kernels[-1])),
        ("speaker/pool_down", _over_time(3 * last, attended)),
        ("speaker/pool_up", _over_time(attended, last)),
        ("speaker/output", _over_time(2 * last, outputs)),
    )


def _bigvgan(c: Config) -> Part:
    """Each level doubles the rate or more and halves the channels; between them residual blocks with snake activations."""
    width, mel = c.integer("upsample_initial_channel"), c.integer("mel_dim")
    blocks: Named = (("input", _over_time(mel, width, 7)),)
    kernels, dilations = numbers(c, "resblock_kernel_sizes"), c.entries("resblock_dilation_sizes", of=(list, tuple))  # type: ignore[arg-type]
    if len(dilations) != len(kernels) or any(len(each) != 3 for each in dilations):
        raise c.error("resblock_dilation_sizes", "must have three dilations for each of resblock_kernel_sizes")
    for level, kernel in enumerate(numbers(c, "upsample_kernel_sizes")):
        narrow = max(1, width // 2)
        blocks += ((f"levels{level}/up", _over_time(width, narrow, kernel)),)
        for i, size in enumerate(kernels):
            for j in range(6):
                name = f"levels{level}/{i}/{j}"
                blocks += ((f"{name}/snake", _snake(narrow)), (name, _over_time(narrow, narrow, size)))
        width = narrow
    return Part("waveform", entry=(*blocks, ("snake", _snake(width)), ("output", Convolution(width, 1, (7,), (1,)))))


def qwen3_talker(c: Config) -> tuple[Part, Part]:
    """Qwen 2's mixture with norms of heads; a small decoder adds the further codes of each moment."""
    text, guess = c.sub("text_config", TALKER_TEXT), c.sub("code_predictor_config", CODE_PREDICTOR)
    hidden, norm, thought = text.integer("hidden_size"), rms(text), c.integer("thinker_hidden_size")
    inner, words = text.integer("intermediate_size"), text.integer("vocab_size")
    mixer = head_norms(text, biased_attention(text))
    shared = mlp(text, intermediate=text.integer("shared_expert_intermediate_size"))
    layers = alternating(
        text, sparse_every_nth(text), mixer, lambda: experts(text, shared=shared, shared_gate=True, shared_first=True)
    )
    resized: Named = tuple(
        (f"{of}_{name}", block)
        for of in ("text", "hidden")
        for name, block in (
            ("up", Projection(thought, inner, bias=True, activation=text.text("hidden_act", "silu"), cut="outputs")),
            ("down", Projection(inner, hidden, bias=True, cut="inputs")),
        )
    )
    talker = Part(
        "talker",
        entry=(("embedding", Embedding(words, hidden)), *resized),
        stacks=(Stack.of(layers),),
        exit=(("final_norm", norm), ("codes", Projection(hidden, words))),
    )
    return talker, _code_predictor(guess)


def _code_predictor(c: Config) -> Part:
    hidden, words, norm, groups = c.integer("hidden_size"), c.integer("vocab_size"), rms(c), c.integer("num_code_groups") - 1
    layer = pre_norm(norm, head_norms(c, biased_attention(c)), mlp(c))
    return Part(
        "code predictor",
        entry=tuple((f"embedding{i}", Embedding(words, hidden)) for i in range(groups)),
        stacks=(Stack.uniform(layer, c.layers()),),
        exit=(("final_norm", norm), *((f"codes{i}", Projection(hidden, words)) for i in range(groups))),
    )


def qwen3_sound(c: Config) -> Part:
    """Layers over the codes with a window, then ConvNeXt blocks and residual convolutions, each at a higher rate."""
    hidden, norm, width = c.integer("hidden_size"), rms(c), c.integer("decoder_dim")
    scale = Plain((Weight("scale", "other", (hidden,)),))
    before = pre_norm(norm, biased_attention(c, window=c.integer("sliding_window")), mlp(c)).blocks
    layer = Layer((*before[:2], ("attention_scale", scale), *before[2:], ("mlp_scale", scale)))
    blocks: Named = (("final_norm", norm),)
    for i, factor in enumerate(numbers(c, "upsampling_ratios")):
        blocks += (
            (f"upsampling{i}", _over_time(hidden, hidden, factor)),
            (f"upsampling{i}/depthwise", Convolution(hidden, hidden, (7,), (1,), groups=hidden, bias=True)),
            (f"upsampling{i}/norm", Norm(hidden, "layer")),
            (f"upsampling{i}/mlp", MLP(hidden, 4 * hidden, gated=False, bias=True, activation="gelu")),
            (f"upsampling{i}/scale", scale),
        )
    blocks += (("decoder_input", _over_time(hidden, width, 7)),)
    for i, rate in enumerate(numbers(c, "upsample_rates")):
        narrow = max(1, width // 2)
        blocks += ((f"levels{i}/snake", _snake(width)), (f"levels{i}/up", _over_time(width, narrow, 2 * rate)))
        for j in range(3):
            blocks += (
                (f"levels{i}/{j}/first_snake", _snake(narrow)),
                (f"levels{i}/{j}/first", _over_time(narrow, narrow, 7)),
                (f"levels{i}/{j}/last_snake", _snake(narrow)),
                (f"levels{i}/{j}/last", _over_time(narrow, narrow)),
            )
        width = narrow
    codes = Embedding(c.integer("codebook_size") * c.integer("num_quantizers"), hidden)
    end: Named = (*blocks, ("snake", _snake(width)), ("output", _over_time(width, 1, 7)))
    return Part("waveform", entry=(("embedding", codes),), stacks=(Stack.uniform(layer, c.layers()),), exit=end)


def numbers(c: Config, key: str) -> list[int]:
    values = c.entries(key, of=int)
    if not all(0 < value <= MAX_SIZE for value in values):
        raise c.error(key, "must hold positive whole numbers")
    return values


def _over_time(inputs: int, outputs: int, kernel: int = 1) -> Convolution:
    return Convolution(inputs, outputs, (kernel,), (1,), bias=True)


def _snake(channels: int) -> Plain:
    """x + sin²(αx) / β, of a learned α and β for each channel."""
    return Plain(tuple(Weight(name, "other", (channels,)) for name in ("alpha", "beta")))


TALKER: Mapping[str, Any] = {
    "vocab_size": 8448,
    "embedding_size": 3584,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "head_dim": 128,
}
DIT: Mapping[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 22,
    "num_attention_heads": 16,
    "ff_mult": 2,
    "emb_dim": 512,
    "head_dim": 64,
    "mel_dim": 80,
    "num_embeds": 8193,
    "enc_emb_dim": 192,
    "enc_dim": 128,
    "enc_channels": (256, 256, 256, 256, 768),
    "enc_kernel_sizes": (5, 3, 3, 3, 1),
    "enc_attention_channels": 64,
    "enc_res2net_scale": 2,
    "enc_se_channels": 64,
}
BIGVGAN: Mapping[str, Any] = {
    "mel_dim": 80,
    "upsample_initial_channel": 1536,
    "resblock_kernel_sizes": (3, 7, 11),
    "resblock_dilation_sizes": ((1, 3, 5), (1, 3, 5), (1, 3, 5)),
    "upsample_kernel_sizes": (11, 7, 4, 4, 4, 4),
}
TALKER_TEXT: Mapping[str, Any] = {
    "vocab_size": 3072,
    "hidden_size": 1024,
    "intermediate_size": 2048,
    "num_hidden_layers": 20,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "moe_intermediate_size": 384,
    "num_experts_per_tok": 8,
    "num_experts": 128,
    "norm_topk_prob": False,
}
CODE_PREDICTOR: Mapping[str, Any] = {
    "vocab_size": 2048,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 5,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "num_code_groups": 32,
}
CODE2WAV: Mapping[str, Any] = {
    "codebook_size": 2048,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 8,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "sliding_window": 72,
    "num_quantizers": 16,
    "upsample_rates": (8, 5, 4, 3),
    "upsampling_ratios": (2, 2),
    "decoder_dim": 1536,
}
