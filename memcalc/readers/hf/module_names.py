"""memcalc's weight paths as the module names of Hugging Face models, and lists that select modules by name.

Lists of modules in a quantization_config hold plain names ("lm_head", "model.layers.0.mlp.down_proj"), prefixes
("model.visual"), globs ("model.layers.*.self_attn") and, after "re:", regular expressions. A list is read once into
(layer number or all, the rest of the name), so that asking it costs nothing a layer.
"""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from itertools import product

from memcalc.caches import cached
from memcalc.errors import InputError, one_line

MAX_PATTERNS, MAX_LENGTH, MAX_REPEATS = 1000, 500, 6  # a list from outside must not take long
_ATTENTION = ("self_attn", "attn", "attention", "self_attention", "mixer")
_MLP = ("mlp", "feed_forward", "ffn", "block_sparse_moe", "mixer")
PARENTS: dict[str, tuple[str, ...]] = {
    "attention": _ATTENTION,
    "cross_attention": ("cross_attn", "encoder_attn"),
    "attention/indexer": tuple(f"{name}.indexer" for name in _ATTENTION[:2]),
    "attention/compressor": tuple(f"{name}.compressor" for name in _ATTENTION[:2]),
    "linear_attention": ("linear_attn", "self_attn"),
    "mlp": _MLP,
    "mlp/shared": tuple(f"{name}.{shared}" for name in _MLP for shared in ("shared_experts", "shared_expert", "shared_mlp")),
    "experts": ("experts.0", "experts", "moe.experts.0"),
    "routed": tuple(f"{name}.{experts}" for name in _MLP for experts in ("experts.0", "experts")),
    "state_space": ("mamba", "mixer"),
    "convolution": ("conv",),
    "recurrent": ("temporal_block",),
    "per_layer_input": ("",),
    "laurel": ("laurel",),
}
LEAVES: dict[str, tuple[str, ...]] = {
    "q": ("q_proj", "wq_b"), "k": ("k_proj", "wk"), "v": ("v_proj",), "kv": ("wkv",),
    "qkv": ("qkv_proj", "query_key_value", "Wqkv", "c_attn", "in_proj_qkv"),
    "output": ("o_proj", "out_proj", "dense", "c_proj", "linear_out"),
    "q_down": ("q_a_proj", "wq_a"), "q_up": ("q_b_proj", "wq_b"), "kv_down": ("kv_a_proj_with_mqa",), "kv_up": ("kv_b_proj",),
    "output_down": ("wo_a",), "output_up": ("wo_b",), "head_weights": ("weights_proj",),
    "gate": ("gate_proj", "w1", "g_proj"), "up": ("up_proj", "w3", "fc1", "c_fc", "dense_h_to_4h"),
    "gate_up": ("gate_up_proj", "gate_proj", "up_proj", "w1", "w3"),
    "down": ("down_proj", "w2", "fc2", "c_proj", "dense_4h_to_h"),
    "qkvz": ("in_proj_qkvz",), "ba": ("in_proj_ba",), "a": ("in_proj_a", "a_proj"), "b": ("in_proj_b", "b_proj"),
    "z": ("in_proj_z", "g_proj"),
    "decay_down": ("f_a_proj",), "decay_up": ("f_b_proj",), "gate_down": ("g_a_proj",),
    "q_gate": ("q_gate_proj",), "decay": ("f_proj",),
    "in": ("in_proj",), "x": ("x_proj", "linear_x"), "y": ("linear_y",), "dt": ("dt_proj",),
}  # fmt: skip
HEAD: tuple[str, ...] = ("lm_head", "head", "output")
_PREFIXES = ("model.layers", "model.language_model.layers", "language_model.model.layers", "layers")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d{1,9}|\*|\?)(?:\.|$)")
_OTHER_PARTS = re.compile(r"visual|vision|audio|mtp|encoder\.|multi_modal|merger", re.IGNORECASE)
_DIGIT = re.compile(r"\d|\\d")
_REPEAT, _REFERS = re.compile(r"(?<!\\)[*+{]"), re.compile(r"\(\?P|\\[1-9]")
_NESTED = re.compile(r"[+*}]\)+[+*{]")  # such patterns can take exponential time


def module_names(path: str, routed: bool) -> tuple[str, ...]:
    """The modules that a layer's weight may belong to, without what stands before the layer's number.

    >>> module_names("attention/kv_up", routed=False)[:2]
    ('self_attn.kv_b_proj', 'attn.kv_b_proj')
    """
    parent, _, name = path.rpartition("/")
    parents = PARENTS.get("routed" if routed and parent == "mlp" else parent, (parent,))
    found = LEAVES.get(name, (name,))
    return tuple(f"{above}.{below}".lstrip(".") for above, below in product(parents, found))


class Selection:
    """The modules that a list of names selects. Raises InputError for a pattern that cannot be read."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._plain: dict[str, set[int | None]] = {}
        self._globs: dict[str, set[int | None]] = {}
        patterns: list[str] = []
        for entry in entries:
            if entry.startswith("re:"):
                patterns.append(_checked(entry[3:]))
                continue
            number, rest = _split(entry)
            if rest is None:
                continue
            kind = self._globs if "*" in rest or "?" in rest else self._plain
            kind.setdefault(rest, set()).add(number)
        if (count := len(patterns) + len(self._globs)) > MAX_PATTERNS:
            raise InputError(f"{count} different patterns; at most {MAX_PATTERNS} are read")
        self._patterns = [  # those that may depend on a layer's number, and the others
            (re.compile("|".join(f"(?:{p})" for p in some)), numbered)
            for numbered in (True, False)
            if (some := [p for p in patterns if bool(_DIGIT.search(p)) is numbered])
        ]

    def layers(self, names: tuple[str, ...], depth: int) -> frozenset[int]:
        """The layers, of `depth`, in which one of these modules is selected."""
        found: set[int | None] = set()
        for rest in {part for name in names for part in _parts(name)} & self._plain.keys():
            found |= self._plain[rest]
        for rest, numbers in self._globs.items():
            found |= numbers if any(_glob(name, rest) for name in names) else set()
        for pattern, numbered in self._patterns:
            found |= _by_pattern(pattern, names, range(depth if numbered else 1), numbered)
        return frozenset(range(depth)) if None in found else frozenset(n for n in found if n is not None and n < depth)


def _split(entry: str) -> tuple[int | None, str | None]:
    """(layer number, the rest of the name); a rest of None names another part of the model."""
    match = _LAYER.search(entry)
    if of_another_part(entry):
        return None, None
    if match is None:
        return None, entry or None
    return (int(match[1]) if match[1].isdigit() else None), entry[match.end() :]


def of_another_part(entry: str) -> bool:
    """Whether a name belongs to a vision or audio tower, a projector or a draft head."""
    match = _LAYER.search(entry)
    return _OTHER_PARTS.search(entry[: match.start()] if match else entry) is not None


@cached(maxsize=4096)
def _parts(name: str) -> frozenset[str]:
    """Every run of a name's components; and the whole layer."""
    words = name.split(".")
    return frozenset({"", *(".".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1))})


@cached(maxsize=8192)
def _glob(name: str, rest: str) -> bool:
    return any(fnmatchcase(whole, pattern) for whole in (name, f"model.layers.{name}") for pattern in (rest, f"{rest}.*"))


def _by_pattern(pattern: re.Pattern[str], names: tuple[str, ...], layers: range, numbered: bool) -> set[int | None]:
    """A pattern without numbers selects a module in all layers or in none."""
    matched = {
        number for number in layers
        if any(pattern.match(f"{prefix}.{number}.{name}") for prefix in _PREFIXES for name in names)
    }  # fmt: skip
    return {*matched} if numbered else {None} if matched else set()


def _checked(text: str) -> str:
    shown = repr(one_line(text, 60))
    if len(text) > MAX_LENGTH or _NESTED.search(text) or len(_REPEAT.findall(text)) > MAX_REPEATS or _REFERS.search(text):
        raise InputError(f"the pattern {shown} is too long, has too many repetitions, nests them or names groups")
    try:
        re.compile(f"(?:{text})")
    except re.error as error:
        raise InputError(f"the pattern {shown} is no regular expression: {error}") from None
    return text
