"""One model under the names that people use for it: hub ids and addresses, ollama tags, other dots, dashes and capitals."""

import re
from collections.abc import Iterator

from memcalc.errors import InputError

ADDRESS = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?:models/)?", re.IGNORECASE)
HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
TAG = re.compile(r"([\w.-]{1,96}):([\w.-]{1,64})")  # ollama's model:tag
# Words that name another checkpoint of the same architecture: fine-tuned or not, converted for transformers, the default tag.
SAME = frozenset("instruct chat it base hf pretrained latest".split())  # noqa: SIM905
MAKERS = frozenset("meta".split())  # stand before a family's name in some ids  # noqa: SIM905
# A stored format in a name is a setting of its own, never dropped in silence.
STORED = re.compile(
    r"(^|[-_.:])(i?q\d\w*|gguf|gptq|awq|exl[23]|bnb|[48]-?bits?|int[48]|fp8|nvfp4|mxfp4|mlx)($|[-_.])", re.IGNORECASE
)


def foreign_name(text: str) -> str | None:
    """The name inside a hub address, a hub id or an ollama tag, as one word; None for what is none of these."""
    bare = ADDRESS.sub("", text.strip())
    if bare != text.strip():
        bare = "/".join(bare.split("?")[0].split("#")[0].split("/")[:2])
    if HUB_ID.fullmatch(bare):
        return bare.split("/")[1]
    if tag := TAG.fullmatch(bare):
        model, size = tag.groups()
        return model if size == "latest" else f"{model}-{size}"
    return None


def spellings(name: str) -> Iterator[tuple[str, ...]]:
    """A name as its words and numbers, whatever stands between them; then without words that name the same architecture.

    >>> [*spellings("Meta-Llama-3.1-8B-Instruct")]
    [('meta', 'llama', '3', '1', '8', 'b', 'instruct'), ('llama', '3', '1', '8', 'b')]
    """
    parts = tuple(re.findall(r"[a-z]+|\d+", name.lower()))
    yield parts
    kept = parts[1:] if parts[:1] and parts[0] in MAKERS else parts
    while kept and kept[-1] in SAME:
        kept = kept[:-1]
    if kept and kept != parts:
        yield kept


def check_unstored(name: str, text: str) -> None:
    """Refuse a name with a stored format in it: it says how weights are kept, which is `--weights`."""
    if found := STORED.search(name):
        word = found[2]
        raise InputError(
            f"{text!r:.80} names a stored format ({word:.20}); give the model, and the format as --weights", place="MODEL"
        )
