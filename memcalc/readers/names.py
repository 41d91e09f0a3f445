"""One model under the names that people use for it: hub ids and addresses, ollama tags, other dots, dashes and capitals."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from memcalc.frozen import NamedTuple

ADDRESS = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?:models/)?", re.IGNORECASE)
HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
TAG = re.compile(r"((?:[\w.-]{1,96}/)?[\w.-]{1,96}):([\w.-]{1,64})")  # ollama's model:tag, hf.co/org/name:tag among them
# Words that name another checkpoint of the same architecture: fine-tuned or not, converted for transformers, the default tag.
SAME = frozenset("instruct chat it base hf pretrained pt latest abliterated uncensored".split())  # noqa: SIM905
SIXTEEN_BITS = ("bf", "16")  # "-BF16": as the models are stored anyway
MAKERS = frozenset("meta nvidia google".split())  # stand before a family's name in some ids  # noqa: SIM905
# A stored format in a name is a setting of its own, never dropped in silence: the word → what `--weights` calls it.
STORED = re.compile(
    r"(?:^|[-_.:])(?P<word>(?:unsloth[-_])?(?:i?q\d\w*|gguf|gptq(?:[-_]int[48])?|awq(?:[-_]int4)?|exl[23]|bnb(?:[-_]4bit)?"
    r"|[48]-?bits?|int[48]|fp8(?:[-_]dynamic)?|nvfp4|mxfp4|mlx|w[48]a(?:8|16)|auto-?round))(?=$|[-_.:])",
    re.IGNORECASE,
)
WEIGHTS = {  # what `--weights` calls it, where it is another word
    "bnb": "nf4-dq", "bnb-4bit": "nf4-dq", "unsloth-bnb-4bit": "nf4-dq", "gptq-int8": "int8", "int4": "int4-g128",
    "autoround": "gptq-int4-g128", "auto-round": "gptq-int4-g128",  # its scheme and layout by default
}  # fmt: skip


class NameIndex(NamedTuple):
    """All names of some presets: `aliases` as they are written, `words` as the words and numbers in them."""

    aliases: Mapping[str, Sequence[str]]  # alias → the presets that list it
    words: Mapping[str, Sequence[str]]  # words, a space between → the presets that they name best


def foreign_name(text: str) -> str | None:
    """The name inside a hub address, a hub id or an ollama tag, as one word; None for what is none of these.

    >>> foreign_name("hf.co/bartowski/Qwen3-8B-GGUF:Q4_K_M"), foreign_name("llama3.1:8b")
    ('Qwen3-8B-GGUF-Q4_K_M', 'llama3.1-8b')
    """
    bare = ADDRESS.sub("", text.strip())
    if bare != text.strip():
        bare = "/".join(bare.split("?")[0].split("#")[0].split("/")[:2])
    if HUB_ID.fullmatch(bare):
        return bare.split("/")[1]
    if tag := TAG.fullmatch(bare):
        model, size = tag.groups()
        model = model.rpartition("/")[2]
        return model if size == "latest" else f"{model}-{size}"
    return None


def parts_of(name: str) -> tuple[str, ...]:
    """A name as its words and numbers, whatever stands between them.

    >>> parts_of("Llama-3.1_8B")
    ('llama', '3', '1', '8', 'b')
    """
    return tuple(re.findall(r"[a-z]+|\d+", name.lower()))


def spellings(name: str) -> Iterator[tuple[str, ...]]:
    """The words and numbers of a name; then without those that name the same architecture.

    >>> [*spellings("Meta-Llama-3.1-8B-Instruct")]
    [('meta', 'llama', '3', '1', '8', 'b', 'instruct'), ('llama', '3', '1', '8', 'b')]
    """
    parts = parts_of(name)
    yield parts
    kept = parts[1:] if parts[:1] and parts[0] in MAKERS else parts
    while kept and (kept[-1] in SAME or kept[-2:] == SIXTEEN_BITS):
        kept = kept[: -2 if kept[-2:] == SIXTEEN_BITS else -1]
    if kept and kept != parts:
        yield kept


def names_of(presets: Mapping[str, Iterable[str]]) -> NameIndex:
    """The index of presets (name → aliases). Whole names go before aliases, both before what is left without words of SAME."""
    aliases: dict[str, list[str]] = {}
    ranked: dict[str, dict[int, dict[str, None]]] = {}
    for name, others in presets.items():
        for spelled, is_alias in ((name, 0), *((other, 1) for other in others)):
            if is_alias:
                aliases.setdefault(spelled, []).append(name)
            for shortened, parts in enumerate(spellings(spelled)):
                ranked.setdefault(" ".join(parts), {}).setdefault(2 * shortened + is_alias, {})[name] = None
    return NameIndex(aliases, {words: [*ranks[min(ranks)]] for words, ranks in sorted(ranked.items())})


def named(text: str, names: NameIndex, *, beginnings: bool = False) -> list[str]:
    """The presets that a spelling names: one, several where it is ambiguous, or none.

    `beginnings`: the first words of a name are enough ("qwen3-next" of qwen3-next-80b-a3b).
    """
    wanted = [*spellings(text)]
    for parts in wanted:
        if found := names.words.get(" ".join(parts)):
            return [*found]
    for loosened in (_run_together, _reordered):
        keys = {loosened(parts) for parts in wanted}
        if found := _presets(names, lambda words, of=loosened, keys=keys: of(words.split()) in keys):  # type: ignore[misc]
            return found
    begins = f"{' '.join(wanted[0])} "
    found = _presets(names, lambda words: words.startswith(begins))
    return found if beginnings or len(found) > 1 else []


def _presets(names: NameIndex, fits: Callable[[str], bool]) -> list[str]:
    """The presets of the words that fit, each once."""
    return [*{name: None for words, known in names.words.items() if fits(words) for name in known}]


def _run_together(parts: Sequence[str]) -> tuple[str, ...]:
    """gptoss for gpt-oss: the letters as one word, the numbers in order."""
    return ("".join(part for part in parts if part.isalpha()), *_numbers(parts))


def _reordered(parts: Sequence[str]) -> tuple[str, ...]:
    """llama-3.2-vision-11b for llama-3.2-11b-vision: the words in any order, the numbers in theirs."""
    return (*sorted(part for part in parts if part.isalpha()), *_numbers(parts))


def _numbers(parts: Sequence[str]) -> tuple[str, ...]:
    return tuple(part for part in parts if part.isdigit())


def alike(text: str, names: NameIndex) -> list[str]:
    """The names that share most with a spelling that is none, the family's first word above all, or go on where it ends; one a
    preset."""
    wanted, begun = parts_of(text), text.lower().rpartition("/")[2]
    family = next((part for part in wanted if part.isalpha()), "")
    presets = dict.fromkeys(name for known in names.words.values() for name in known)
    best: dict[str, tuple[float, str]] = {}
    for spelled, known in (*((name, (name,)) for name in presets), *names.aliases.items()):
        parts = parts_of(spelled)
        if family in parts:
            shared = (Counter(wanted) & Counter(parts)).total() + spelled.startswith(begun)
            apart = 0.1 * abs(len(parts) - len(wanted)) + 0.01 * _size_apart(wanted, parts)
            best[known[0]] = min((apart - shared, spelled), best.get(known[0], (0.0, "")))
    return [spelled for _, spelled in sorted(best.values())[:3]]


def _size_apart(wanted: Sequence[str], parts: Sequence[str]) -> float:
    """How far two sizes in billions are apart, at most 1 where a name says none."""
    one, other = (next((int(a) for a, b in pairwise(p) if b == "b" and a.isdigit()), 0) for p in (wanted, parts))
    return abs(one - other) / max(one, other) if one and other else 1.0


# Whose own fp8 checkpoints are quantised by blocks of 128 × 128: huggingface.co/Qwen/Qwen3-8B-FP8, config.json
BLOCKWISE = re.compile(r"qwen-?3", re.IGNORECASE)


def stored_word(name: str) -> tuple[str, str] | None:
    """The word in a name that says how weights are stored, and the name without it; None where there is none.

    >>> stored_word("Llama-3.2-1B-Instruct-unsloth-bnb-4bit")
    ('unsloth-bnb-4bit', 'Llama-3.2-1B-Instruct')
    >>> stored_word("Qwen3-8B-GGUF-Q4_K_M")
    ('Q4_K_M', 'Qwen3-8B')
    """
    words = [match["word"] for match in STORED.finditer(name)]
    if not words:
        return None
    told = next((word for word in words if word.lower() != "gguf"), words[0])
    return told, STORED.sub("", name).strip("-_.:")


def weights_word(stored: str, model: str = "") -> str:
    """What `--weights` calls a stored format; "" where it knows none of that name (GGUF without its mixture, EXL3).

    `model`: whose; some makers' own fp8 has a scale for 128 × 128.

    >>> weights_word("FP8"), weights_word("FP8", "Qwen/Qwen3-8B")
    ('fp8', 'fp8-block128')
    """
    from memcalc.specs.quantization import weight_words

    plain = stored.lower().replace("_", "-")
    if plain == "fp8" and BLOCKWISE.match(model.rpartition("/")[2]):
        return "fp8-block128"
    known = {word.lower(): word for word in weight_words()}
    return WEIGHTS.get(plain) or known.get(stored.lower()) or known.get(plain, "")
