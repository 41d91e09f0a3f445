"""The quant_methods of Hugging Face checkpoints: settings → words of `--weights` for groups of modules.

Each method is a row of METHODS, a reader that takes the quantization_config and the whole config. Names and defaults are
those of transformers' quantization_config classes and of the libraries' own files.
"""

from collections.abc import Callable, Mapping
from typing import Any

from memcalc.errors import one_line
from memcalc.frozen import NamedTuple

MAX_ENTRIES = 100_000
EVERYTHING = ("Linear",)  # the class that config_groups target


class ModuleGroup(NamedTuple):
    """Modules stored in one way; `targets` None: all linear layers that no other group targets."""

    word: str
    targets: tuple[str, ...] | None = None


class Plan(NamedTuple):
    groups: tuple[ModuleGroup, ...]
    plain: tuple[str, ...] = ()  # modules to leave alone
    kv_format: str = ""
    experts_only: bool = False
    everywhere: bool = False  # in the other parts of the model too
    head: bool = False
    tables: bool = False  # token embeddings too
    tied_head: str = ""  # of a table's copy for the head


class NotModelled(Exception):
    """A setting whose stored size is not known."""


Values = Mapping[str, Any]


def _fp8(q: Values, config: Values) -> Plan:
    """transformers FineGrainedFP8Config, vLLM Fp8Config: blocks of 128 × 128, or a scale a matrix."""
    block = q.get("weight_block_size")
    if "quant_algo" in q:  # ModelOpt on top of a checkpoint in fp8: what it left alone is still stored so
        on_top = _modelopt(q, config)
        rest = (ModuleGroup("fp8-block128"),) if block else ()
        return on_top._replace(groups=(*on_top.groups, *rest), plain=on_top.plain if not block else ("lm_head", "head"))
    if block not in (None, [128, 128]):
        raise NotModelled(f"weight_block_size {block!r:.40} is not modelled, [128, 128] is")
    groups = [ModuleGroup("fp8-block128" if block else "fp8")]
    if config.get("expert_dtype") == "fp4":  # DeepSeek V4
        groups.append(ModuleGroup("mxfp4", ("*.experts.*",)))
    return Plan(tuple(groups), _names(q, "modules_to_not_convert", "ignored_layers"))


def _fbgemm(q: Values, _: Values) -> Plan:
    return Plan((ModuleGroup("fp8-channel"),), _names(q, "modules_to_not_convert"))


def _gptq(q: Values, _: Values) -> Plan:
    """GPTQ and its descendants: bits, group_size (-1: a group is a whole row), and exceptions by pattern."""
    bits, group = _whole(q, "bits", 4), _group(q, "group_size", 128)
    if "awq" in str(q.get("packing_format", "")):
        return Plan((ModuleGroup(f"awq-int{bits}-g{group}"),), _exceptions(q))
    word = f"gptq-int{bits}-g{group}" if group > 0 else _channel(bits)
    return Plan((ModuleGroup(word),), _exceptions(q), head=q.get("lm_head") is True)


def _awq(q: Values, _: Values) -> Plan:
    bits, group = _whole(q, "bits", _whole(q, "w_bit", 4)), _group(q, "group_size", _group(q, "q_group_size", 128))
    symmetric = q.get("zero_point") is False
    return Plan((ModuleGroup(f"{'' if symmetric else 'awq-'}int{bits}-g{group}"),), _names(q, "modules_to_not_convert"))


def _bitsandbytes(q: Values, _: Values) -> Plan:
    """transformers BitsAndBytesConfig: every nn.Linear but the head and those listed."""
    four, eight = q.get("load_in_4bit") is True, q.get("load_in_8bit") is True
    if four == eight:
        raise NotModelled(f"load_in_4bit and load_in_8bit are {'both' if four else 'neither'} true")
    word = "bnb-int8"
    if four:
        kind = "nf4" if q.get("bnb_4bit_quant_type", "fp4") == "nf4" else "bnb-fp4"
        word = kind + ("-dq" if q.get("bnb_4bit_use_double_quant") is True else "")
    return Plan((ModuleGroup(word),), _names(q, "llm_int8_skip_modules"), everywhere=True)


def _mxfp4(q: Values, _: Values) -> Plan:
    return Plan((ModuleGroup("mxfp4"),), _names(q, "modules_to_not_convert"), experts_only=True)


def _compressed(q: Values, _: Values) -> Plan:
    """compressed-tensors: config_groups, each with the modules (or classes) that it targets."""
    if "sparse" in str(q.get("format")) or _object(q, "sparsity_config").get("format", "dense") != "dense":
        raise NotModelled("sparse weights are not modelled")
    groups = []
    for name, group in _object(q, "config_groups").items():
        if not isinstance(group, Mapping) or not isinstance(weights := group.get("weights"), Mapping):
            raise NotModelled(f"config group {one_line(str(name), 40)!r} says nothing about weights")
        targets = tuple(t for t in _names(group, "targets") if t not in EVERYTHING)
        groups.append(ModuleGroup(_compressed_word(weights), targets or None))
    if not groups:
        raise NotModelled("config_groups is empty")
    return Plan(tuple(groups), _names(q, "ignore"))


def _compressed_word(w: Values) -> str:
    bits, kind, strategy = _whole(w, "num_bits", 8), w.get("type", "int"), w.get("strategy")
    group = _group(w, "group_size", -1)
    grouped = group > 0
    if kind == "float":
        if bits == 4 and grouped:
            return "nvfp4" if group == 16 else "mxfp4"
        if bits == 8:
            tiled = strategy == "block" or w.get("block_structure")
            return "fp8-block128" if tiled else "mxfp8" if grouped else "fp8-channel" if strategy == "channel" else "fp8"
    elif kind == "int":
        if grouped:
            return f"{'' if w.get('symmetric', True) else 'awq-'}int{bits}-g{group}"
        return _channel(bits)
    raise NotModelled(f"{one_line(str(kind), 20)} weights of {bits} bits are not modelled")


def _modelopt(q: Values, config: Values) -> Plan:
    """NVIDIA ModelOpt: one algorithm, config_groups with targets, or a list of layers with an algorithm each."""
    layers = q.get("quantized_layers")
    plain = _names(q, "ignore", "exclude_modules")
    if isinstance(layers, Mapping) and layers:
        by_word: dict[str, list[str]] = {}
        for name, settings in layers.items():
            algorithm = settings.get("quant_algo") if isinstance(settings, Mapping) else None
            by_word.setdefault(_algorithm(algorithm), []).append(str(name))
        return Plan(tuple(ModuleGroup(word, tuple(names)) for word, names in by_word.items()), plain)
    if q.get("quant_algo") not in (None, "MIXED_PRECISION"):
        return Plan((ModuleGroup(_algorithm(q["quant_algo"])),), plain)
    if not q.get("config_groups"):
        raise NotModelled(f"quant_algo {q.get('quant_algo')!r:.40} without quantized_layers is not modelled")
    return _compressed(q, config)


def _algorithm(name: Any) -> str:
    word = {
        "FP8": "fp8", "NVFP4": "nvfp4", "NVFP4_AWQ": "nvfp4", "W4A16_NVFP4": "nvfp4", "MXFP8": "mxfp8", "MXFP4": "mxfp4",
        "FP8_PER_CHANNEL_PER_TOKEN": "fp8-channel", "FP8_PB_WO": "fp8-block128", "W4A16_AWQ": "int4-g128",
    }.get(str(name).upper())  # fmt: skip
    if word is None:
        raise NotModelled(f"quant_algo {one_line(str(name), 40)!r} is not modelled")
    return word


def _quark(q: Values, _: Values) -> Plan:
    """AMD Quark: one setting for all layers, and others by glob."""
    groups = []
    if isinstance(weight := _object(q, "global_quant_config").get("weight"), Mapping):
        groups.append(ModuleGroup(_quark_word(weight)))
    for name, setting in _object(q, "layer_quant_config").items():
        groups.append(ModuleGroup(_quark_word(setting.get("weight") if isinstance(setting, Mapping) else None), (str(name),)))
    if not groups:
        raise NotModelled("global_quant_config says nothing about weights")
    kv = "fp8-e4m3" if "fp8" in str(q.get("kv_cache_quant_config")) else ""
    return Plan(tuple(groups), _names(q, "exclude"), kv)


def _quark_word(w: Any) -> str:
    if not isinstance(w, Mapping):
        raise NotModelled("weights quantised in two steps, or not at all, are not modelled")
    kind, scheme, group = str(w.get("dtype")), w.get("qscheme"), w.get("group_size")
    if kind.startswith("fp8"):
        return "fp8-channel" if scheme == "per_channel" else "fp8"
    if kind.startswith("fp4"):
        return "mxfp4"
    if kind.startswith(("int", "uint")) and (bits := kind.lstrip("uint")).isdigit():
        return f"awq-int{bits}-g{group}" if isinstance(group, int) and group > 0 else _channel(int(bits))
    raise NotModelled(f"weights in {one_line(kind, 40)!r} are not modelled")


def _torchao(q: Values, _: Values) -> Plan:
    """torchao configurations by their class or their old function name."""
    kind: Any = q.get("quant_type")
    data: Any = q.get("quant_type_kwargs")
    if isinstance(kind, Mapping) and isinstance(kind.get("default"), Mapping):
        kind, data = kind["default"].get("_type"), kind["default"].get("_data")
    name = str(kind).lower().replace("_", "")
    data = data if isinstance(data, Mapping) else {}
    if name.startswith("int4weightonly"):
        return Plan((ModuleGroup(f"hqq-int4-g{_whole(data, 'group_size', 128)}"),), _names(q, "modules_to_not_convert"))
    word = next(
        (w for start, w in (("int8", "w8a8"), ("float8", "fp8-channel"), ("nvfp4", "nvfp4")) if name.startswith(start)), ""
    )
    if not word or "int4" in name:
        raise NotModelled(f"quant_type {one_line(str(kind), 40)!r} is not modelled")
    return Plan((ModuleGroup(word),), _names(q, "modules_to_not_convert"))


def _hqq(q: Values, _: Values) -> Plan:
    settings = _object(_object(q, "quant_config"), "weight_quant_params") or q
    bits, group = _whole(settings, "nbits", 4), _whole(settings, "group_size", 64)
    return Plan((ModuleGroup(f"hqq-int{bits}-g{group}"),), _names(q, "skip_modules"))


def _eetq(q: Values, _: Values) -> Plan:
    return Plan((ModuleGroup("eetq"),), _names(q, "modules_to_not_convert"))


MLX_MODES = {"mxfp4": "mxfp4", "mxfp8": "mxfp8", "nvfp4": "nvfp4"}


def _mlx(q: Values, _: Values) -> Plan:
    """mlx-lm utils.py, quantize_model: one setting for all modules, and others by their path (false: left alone)."""
    groups = [ModuleGroup(_mlx_word(q))]
    plain = []
    for path, settings in q.items():
        name = str(path).replace("switch_mlp", "experts")
        if settings is False:
            plain.append(name)
        elif isinstance(settings, Mapping):
            groups.append(ModuleGroup(_mlx_word(settings), (name,)))
    return Plan(tuple(groups), tuple(plain), head=True, tables=True)


def _mlx_word(q: Values) -> str:
    mode = q.get("mode", "affine")
    if mode == "affine":
        return f"mlx-int{_whole(q, 'bits', 4)}-g{_whole(q, 'group_size', 64)}"
    if mode not in MLX_MODES:
        raise NotModelled(f"mode {mode!r:.40} is not modelled, affine and {', '.join(MLX_MODES)} are")
    return MLX_MODES[str(mode)]


def _exl3(q: Values, _: Values) -> Plan:
    """exllamav3 conversion/compile.py: bits per weight on average, and those of the head."""
    bits, head = q.get("bits"), _whole(q, "head_bits", 6)
    if isinstance(bits, bool) or not isinstance(bits, (int, float)) or not 1 <= bits <= 8:
        raise NotModelled(f"bits must be a number from 1 to 8, not {bits!r:.40}")
    word = f"exl3-{head}bpw" if head < 16 else ""
    named = (ModuleGroup(word, ("lm_head", "head")),) if word else ()
    return Plan((ModuleGroup(f"exl3-{round(bits, 2):g}bpw"), *named), head=bool(word), tied_head=word)


METHODS: dict[str, Callable[[Values, Values], Plan]] = {
    "fp8": _fp8, "fbgemm_fp8": _fbgemm, "gptq": _gptq, "gptq_marlin": _gptq, "gptqmodel": _gptq, "auto-round": _gptq,
    "auto_round": _gptq, "intel/auto-round": _gptq, "awq": _awq, "awq_marlin": _awq, "bitsandbytes": _bitsandbytes,
    "mxfp4": _mxfp4, "compressed-tensors": _compressed, "compressed_tensors": _compressed, "modelopt": _modelopt,
    "modelopt_fp4": _modelopt, "quark": _quark, "torchao": _torchao, "hqq": _hqq, "eetq": _eetq,
    "mlx": _mlx, "exl3": _exl3,
}  # fmt: skip


def _channel(bits: int) -> str:
    if bits in (4, 8):
        return "int4-channel" if bits == 4 else "w8a8"
    raise NotModelled(f"{bits}-bit integers with a scale a channel are not modelled")


def _exceptions(q: Values) -> tuple[str, ...]:
    """Modules that GPTQModel (`dynamic`: "-:pattern") and AutoRound (`extra_config`: 16 bits) leave alone."""
    out = list(_names(q, "modules_to_not_convert"))
    for name, settings in _object(q, "extra_config").items():
        bits = settings.get("bits", 16) if isinstance(settings, Mapping) else 16
        if bits == 16:
            out.append(str(name))
        elif bits != q.get("bits"):
            raise NotModelled("layers of different bits are not modelled")
    for pattern in _object(q, "dynamic"):
        if not str(pattern).startswith("-:"):
            raise NotModelled("layers of different bits are not modelled")
        out.append(f"re:{str(pattern)[2:]}")
    return tuple(out)


def _whole(q: Values, key: str, default: int) -> int:
    value = q.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise NotModelled(f"{key} must be a whole number, not {value!r:.40}")
    return value


def _group(q: Values, key: str, default: int) -> int:
    """Values that share a scale; -1: a whole row."""
    size = _whole(q, key, default)
    if size != -1 and size < 1:
        raise NotModelled(f"{key} must be -1 or above 0, not {size}")
    return size


def _object(q: Values, key: str) -> Values:
    value = q.get(key)
    return value if isinstance(value, Mapping) else {}


def _names(q: Values, *keys: str) -> tuple[str, ...]:
    """A list of module names under the first of the keys that has one."""
    for key in keys:
        value = q.get(key)
        if isinstance(value, (list, tuple)):
            if len(value) > MAX_ENTRIES or not all(isinstance(entry, str) for entry in value):
                raise NotModelled(f"{key} must be a list of at most {MAX_ENTRIES} module names")
            return tuple(value)
    return ()


def cache_format(q: Values) -> str:
    """The cache's format where the checkpoint names one: 8-bit floats or integers."""
    scheme = q.get("kv_cache_scheme")
    if isinstance(scheme, Mapping) and scheme.get("num_bits") == 8:
        return "fp8-e4m3" if scheme.get("type") == "float" else "int8"
    return {"FP8": "fp8-e4m3", "INT8": "int8"}.get(str(q.get("kv_cache_quant_algo")).upper(), "")
