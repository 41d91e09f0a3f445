"""Models that speak and listen in codes: CSM, Kyutai's speech-to-text and Moshi with Mimi's, Higgs Audio 2.

Structures follow transformers src/transformers/models/{mimi,csm,kyutai_speech_to_text,moshi,higgs_audio_v2}/.
"""

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.attention.softmax import attention_of
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Weight
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.errors import Unsupported
from memcalc.readers.hf.common import architecture, attention, biased_attention, decoder_part, even_head_dim, mlp, pre_norm, rms
from memcalc.readers.hf.config import MAX_SIZE, Config, Family
from memcalc.readers.hf.tasks import task


def mimi(c: Config, key: str) -> tuple[Part, ...]:
    """The codec: strided convolutions and a few layers with a window each way, two residual quantisers between."""
    kind = c.sub(key, {}).text("model_type", "mimi")
    if kind != "mimi":
        raise Unsupported(f"{c.place}: the codec {kind!r:.60} is not modelled (known: mimi)")
    own = c.sub(key, _MIMI)
    own.asks("codebook_dim", "codebook_size", "dilation_growth_rate", "num_quantizers", "num_semantic_quantizers")  # buffers
    hidden, ratios = own.integer("hidden_size"), own.entries("upsampling_ratios", of=int)
    if not ratios or not all(0 < ratio <= MAX_SIZE for ratio in ratios):
        raise own.error("upsampling_ratios", "must hold positive whole numbers")
    rate = own.integer("sampling_rate") / prod(ratios)
    # saved files hold it behind an underscore, a null there outweighs the other; without either two frames make one
    given = "_frame_rate" if own.has("_frame_rate") or own.null("_frame_rate") else "frame_rate"
    most, fold = -(-rate // 1), 2
    if own.has(given) and own.asks("frame_rate"):
        frames = own.number(given)
        if not 0 < frames <= most:
            raise own.error(given, f"must be above 0 and at most {most:g}, not {frames}")
        fold = int(most / frames)
    inner = own.integer("vector_quantization_hidden_dimension")
    pair = (Convolution(hidden, inner, (1,)), Convolution(inner, hidden, (1,)))
    quantisers: Named = tuple(
        (f"{name}/{way}", block)
        for name in ("semantic", "acoustic")
        for way, block in zip(("input", "output"), pair, strict=True)
        if inner != hidden
    )
    groups = own.integer("upsample_groups")
    if hidden % groups:
        raise own.error("upsample_groups", f"({groups}) does not divide hidden_size ({hidden})")
    down: Named = (("downsampling", Convolution(hidden, hidden, (2 * fold,), (fold,))),) if fold != 1 else ()
    up: Named = (("upsampling", Convolution(hidden, hidden, (2 * fold,), (fold,), groups=groups)),) if fold != 1 else ()
    encoder = Part(
        "codec encoder", entry=_seanet(own, ratios, up=False), stacks=(_transformer(own),), exit=(*down, *quantisers)
    )
    return encoder, Part("codec decoder", entry=up, stacks=(_transformer(own),), exit=_seanet(own, ratios, up=True))


def _seanet(c: Config, ratios: list[int], *, up: bool) -> Named:
    """Convolutions over time, each followed or preceded by residual ones; channels double wherever the rate falls."""
    base, hidden, sound = c.integer("num_filters"), c.integer("hidden_size"), c.integer("audio_channels")
    kernel, last = c.integer("kernel_size"), c.integer("last_kernel_size")
    top = base * 2 ** len(ratios)
    if up:
        blocks: Named = (("input", _over_time(hidden, top, kernel)),)
        for i, ratio in enumerate(ratios):
            wide = top >> i
            blocks += ((f"levels{i}/up", _over_time(wide, wide // 2, 2 * ratio)), *_residual(c, wide // 2, f"levels{i}"))
        return (*blocks, ("output", _over_time(base, sound, last)))
    blocks = (("input", _over_time(sound, base, kernel)),)
    for i, ratio in enumerate(reversed(ratios)):
        wide = base << i
        blocks += (*_residual(c, wide, f"levels{i}"), (f"levels{i}/down", _over_time(wide, 2 * wide, 2 * ratio)))
    return (*blocks, ("output", _over_time(top, hidden, last)))


def _residual(c: Config, width: int, name: str) -> Named:
    inner, kernel = max(1, width // c.integer("compress")), c.integer("residual_kernel_size")
    shortcut = c.flag("use_conv_shortcut")
    return tuple(
        (f"{name}/residual{i}/{part}", block)
        for i in range(c.integer("num_residual_layers", low=0))
        for part, block in (
            ("first", _over_time(width, inner, kernel)),
            ("last", _over_time(inner, width, 1)),
            *((("shortcut", _over_time(width, width, 1)),) if shortcut else ()),
        )
    )


def _transformer(c: Config) -> Stack:
    hidden, norm = c.integer("hidden_size"), Norm(c.integer("hidden_size"), "layer")
    heads, shared, bias = c.integer("num_attention_heads"), c.integer("num_key_value_heads"), c.flag("attention_bias")
    size = c.integer("head_dim", max(1, hidden // heads))
    mixer = attention_of(hidden, heads, shared, size, query_bias=bias, output_bias=bias, window=c.integer("sliding_window"))
    feed_forward = MLP(hidden, c.integer("intermediate_size"), gated=False, activation=c.text("hidden_act"))
    scale = Plain((Weight("scale", "other", (hidden,)),))
    first, second, third, fourth = pre_norm(norm, mixer, feed_forward).blocks
    layer = Layer((first, second, ("attention_scale", scale), third, fourth, ("mlp_scale", scale)))
    return Stack.uniform(layer, c.layers())


def _over_time(inputs: int, outputs: int, kernel: int) -> Convolution:
    return Convolution(inputs, outputs, (kernel,), (1,), bias=True)


def csm(c: Config) -> Architecture:
    """A llama over text and the first codes of each moment; a smaller one adds the others, with the same table of codes."""
    books, words, hidden = c.integer("num_codebooks"), c.integer("vocab_size"), c.integer("hidden_size")
    tied = c.flag("tie_codebooks_embeddings", True)
    norm = rms(c)
    layer = pre_norm(norm, biased_attention(c), mlp(c, bias=c.flag("mlp_bias", False)))
    depth = c.sub("depth_decoder_config", _CSM_DEPTH)
    inner, source, own = depth.integer("hidden_size"), depth.integer("backbone_hidden_size"), depth.integer("num_codebooks")
    table = Embedding(depth.integer("vocab_size") * own, source)
    codes = table if tied else Embedding(words * books, hidden)
    language = Part(
        "language",
        entry=(("embedding", codes), ("text_embedding", Embedding(c.integer("text_vocab_size"), hidden))),
        stacks=(Stack.uniform(layer, c.layers()),),
        exit=(("final_norm", norm), ("head", Head(words, hidden))),
    )
    depth_norm, heads = rms(depth), Weight("codes", "head", (own - 1, inner, depth.integer("vocab_size")))
    depth_layer = pre_norm(depth_norm, biased_attention(depth), mlp(depth, bias=depth.flag("mlp_bias", False)))
    further = Part(
        "depth decoder",
        entry=(*(() if tied else (("embedding", table),)), ("input", Projection(source, inner))),
        stacks=(Stack.uniform(depth_layer, depth.layers()),),
        exit=(("final_norm", depth_norm), ("codes", Plain((heads,)))),
    )
    return architecture(c, (language, further, *mimi(c, "codec_config")), tied=False)


def kyutai_speech_to_text(c: Config) -> Architecture:
    """Moshi's decoder over text and the codes of what is heard."""
    books, words, width = c.integer("num_codebooks"), c.integer("vocab_size"), c.integer("ffn_dim")
    hidden, norm, tied = c.integer("hidden_size"), rms(c), c.flag("tie_word_embeddings", False)
    if width % 2:
        raise c.error("ffn_dim", f"({width}) must be even: it counts gate and up together")
    layer = pre_norm(norm, attention(c, window=c.integer("sliding_window")), mlp(c, intermediate=width // 2, fused=True))
    rows = words + books * c.integer("codebook_vocab_size") + 1
    part = decoder_part(c, layer, norm, tied=tied, embedding=Embedding(rows, hidden))
    codec = () if task(c) == "Model" else mimi(c, "codec_config")
    return architecture(c, (part, *codec), tied=tied)


def higgs_audio_v2(c: Config) -> Architecture:
    """A llama whose layers have norms and a feed-forward of their own for sound; it predicts codes alone, and ties nothing."""
    norm, feed_forward, hidden = rms(c), mlp(c, bias=c.flag("mlp_bias", False)), c.integer("hidden_size")
    first, second, third, fourth = pre_norm(norm, biased_attention(c), feed_forward).blocks
    sound: Named = (("audio_input_norm", norm), ("audio_norm", norm), ("audio_mlp", feed_forward))
    layer = Layer((first, second, third, fourth, *sound))
    books = c.integer("num_codebooks") * c.integer("codebook_size")
    codes: Named = (("codes", Embedding(books, hidden)),)
    part = decoder_part(c, layer, norm, tied=False, head=Head(books, hidden), after_embedding=codes)
    return architecture(c, (part,), tied=False)


def moshi_codes(c: Config, language: Part) -> Architecture:
    """Moshi with ears and mouth: tables of codes, and a depth decoder that has weights of its own for each of them."""
    hidden, books = c.integer("hidden_size"), c.integer("num_codebooks")
    words = c.integer("audio_vocab_size", c.sub("audio_encoder_config", _MIMI).integer("codebook_size"))
    heard: Named = tuple((f"codes{i}", Embedding(words + 1, hidden)) for i in range(2 * books))
    depth = c.sub("depth_decoder_config", _MOSHI_DEPTH)
    inner, own, width = depth.integer("hidden_size"), depth.integer("num_codebooks"), depth.integer("ffn_dim")
    heads, shared, size = depth.integer("num_attention_heads"), depth.integer("num_key_value_heads"), even_head_dim(depth)
    drawn, text = depth.integer("audio_vocab_size"), depth.integer("vocab_size")
    shapes = {
        "q": (heads * size, inner),
        "k": (shared * size, inner),
        "v": (shared * size, inner),
        "output": (inner, heads * size),
        "gate_up": (width, inner),
        "down": (inner, width // 2),
    }
    depth.asks("head_dim", "sliding_window")  # the library takes its own head size; a moment has fewer codes than the window
    norm = rms(depth)
    each = Plain(tuple(Weight(name, "other", (own, *shape)) for name, shape in shapes.items()))
    layer = Layer((("input_norm", norm), ("each", each), ("post_attention_norm", norm)))
    entry: Named = (
        ("text_embedding", Embedding(text + 1, inner)),
        *((f"codes{i}", Embedding(drawn + 1, inner)) for i in range(own - 1)),
        ("input", Plain((Weight("each", "other", (own, inner, depth.integer("input_size"))),))),
    )
    end: Named = (("codes", Plain((Weight("each", "head", (own, drawn, inner)),))),)
    further = Part("depth decoder", entry=entry, stacks=(Stack.uniform(layer, depth.layers()),), exit=end)
    first = replace(language, entry=(*language.entry, *heard))
    return architecture(c, (first, further, *mimi(c, "audio_encoder_config")), tied=False)


_MIMI: Mapping[str, Any] = {
    "sampling_rate": 24000,
    "audio_channels": 1,
    "hidden_size": 512,
    "num_filters": 64,
    "num_residual_layers": 1,
    "upsampling_ratios": (8, 6, 5, 4),
    "kernel_size": 7,
    "last_kernel_size": 3,
    "residual_kernel_size": 3,
    "compress": 2,
    "codebook_size": 2048,
    "use_conv_shortcut": False,
    "vector_quantization_hidden_dimension": 256,
    "upsample_groups": 512,
    "num_hidden_layers": 8,
    "intermediate_size": 2048,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "hidden_act": "gelu",
    "sliding_window": 250,
    "attention_bias": False,
}
_CSM_DEPTH: Mapping[str, Any] = {
    "num_codebooks": 32,
    "backbone_hidden_size": 2048,
    "vocab_size": 2051,
    "hidden_size": 1024,
    "intermediate_size": 8192,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
}
_MOSHI_DEPTH: Mapping[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 1024,
    "input_size": 4096,
    "num_hidden_layers": 6,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "audio_vocab_size": 2048,
    "num_codebooks": 8,
    "ffn_dim": 5632,
    "rms_norm_eps": 1e-8,
}

FAMILIES = {
    "csm": Family(csm, {"num_codebooks": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "max_position_embeddings": 2048}),
    "higgs_audio_v2": Family(
        higgs_audio_v2,
        {
            "num_key_value_heads": 8,
            "head_dim": 128,
            "num_codebooks": 8,
            "codebook_size": 1024,
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": 2048,
        },
    ),
    "kyutai_speech_to_text": Family(
        kyutai_speech_to_text,
        {
            "codebook_vocab_size": 2049,
            "ffn_dim": 11264,
            "num_codebooks": 32,
            "sliding_window": 375,
            "rms_norm_eps": 1e-8,
            "max_position_embeddings": 750,
        },
    ),
}
