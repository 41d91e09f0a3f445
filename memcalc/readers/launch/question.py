"""A job → the question that it asks of memcalc: its command, MODEL and settings."""

from typing import Any

from memcalc.frozen import NamedTuple
from memcalc.readers.launch.facts import Fact, Facts
from memcalc.readers.launch.job import Job
from memcalc.readers.launch.serving_settings import serving
from memcalc.readers.launch.settings import FIELDS, Making, Setting
from memcalc.readers.launch.training_settings import training


class LaunchQuestion(NamedTuple):
    """What a job comes to: a command, its MODEL (a name, a config, or None), settings, and words about both."""

    command: str
    model: Any
    gpu: str | None
    settings: dict[str, Setting]
    asks: tuple[str, ...]  # what no file says
    warnings: tuple[str, ...]
    model_facts: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()  # defaults of the tool that are taken
    weights: str = ""  # a stored format that the model's name carries


def model_of(making: Making) -> tuple[Any, tuple[str, ...], str]:
    """MODEL, the facts that name it, and the stored format in its name; a model in numbers becomes a config."""
    from memcalc.readers.names import foreign_name, stored_word, weights_word

    for fact in ("model", "model_file", "hf_checkpoint"):
        name = making.value(fact)
        if not name:
            continue
        text = str(name)
        if fact == "model" and " " in text:  # torchtitan's name and flavor
            text = text.replace(" ", "-")
        plain = foreign_name(text) or text
        stored = stored_word(plain)
        if stored and not text.startswith(("/", ".")):
            return stored[1], (fact,), weights_word(*stored)
        if text.startswith("/"):
            last = text.rstrip("/").rpartition("/")[2]
            making.warn(f"{text} is a path of that machine; {last} is looked for, MODEL says another", fact)
            return last, (fact,), ""
        return text, (fact,), ""
    if "layers" in making.facts and "hidden" in making.facts:
        config = shape_of(making)
        return config, SHAPE, ""
    return None, (), ""


SHAPE = ("layers", "hidden", "heads", "kv_heads", "ffn", "vocab", "experts", "topk", "swiglu", "untied", "tied",
    "vocab_multiple", "head_dim",
         "expert_ffn", "gqa", "positions")  # fmt: skip
UNSHAPED = ("mla", "shared_ffn", "q_lora", "kv_lora")


def shape_of(making: Making) -> dict[str, Any] | None:
    """A config.json of Megatron-LM's or nanotron's numbers: Llama's, Mixtral's or GPT-2's family; None where it needs more."""
    value = making.value
    layers, hidden, heads, vocab = value("layers"), value("hidden"), value("heads"), value("vocab")
    if not all(isinstance(size, int) and size > 0 for size in (layers, hidden, heads)):
        return None
    if vocab is None:
        making.ask("vocab")
        making.warn("the vocabulary is the tokenizer's, which the files do not hold; name a model with MODEL")
        return None
    if odd := next((name for name in UNSHAPED if value(name)), ""):
        making.warn(f"a model with {odd.replace('_', ' ')} is not built of numbers; name it with MODEL", odd)
        return None
    multiple = (value("vocab_multiple") or 128) * (value("tp") or 1)
    padded = -(-vocab // multiple) * multiple
    nanotron = making.job.kind.name == "nanotron-yaml"
    gated = bool(value("swiglu")) or nanotron
    ffn = value("ffn") or (int(hidden * 8 / 3) // 64 * 64 if gated else 4 * hidden)
    tied = bool(value("tied")) if "tied" in making.facts else not value("untied")
    if gated:
        config = {
            "model_type": "llama", "hidden_size": hidden, "intermediate_size": ffn, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": value("kv_heads") or heads, "vocab_size": padded,
            "tie_word_embeddings": tied, "head_dim": value("head_dim") or hidden // heads,
            "max_position_embeddings": value("positions") or value("seq_len") or 4096,
        }  # fmt: skip
        if value("experts"):
            config |= {"model_type": "mixtral", "num_local_experts": value("experts"),
                "num_experts_per_tok": value("topk") or 2,
                       "intermediate_size": value("expert_ffn") or ffn}  # fmt: skip
        return config
    if value("experts") or value("kv_heads") not in (None, heads):
        making.warn(
            "a model with experts or grouped queries and no gated MLP is not built of numbers; name it with MODEL", "layers"
        )
        return None
    return {"model_type": "gpt2", "n_embd": hidden, "n_layer": layers, "n_head": heads, "n_inner": ffn, "vocab_size": padded,
            "n_positions": value("positions") or value("seq_len") or 2048, "tie_word_embeddings": tied}  # fmt: skip


def _drop_impossible(making: Making) -> None:
    """Leaves out numbers that no setting can be, and says so."""
    from memcalc.specs.serving import Serving
    from memcalc.specs.spec import bounds
    from memcalc.specs.training import Training

    for name, (low, high) in bounds(Serving if making.job.kind.task == "infer" else Training).items():
        found = making.settings.get(name)
        if found is None or isinstance(found.value, bool) or not isinstance(found.value, (int, float)):
            continue
        if not low <= found.value <= high:
            del making.settings[name]
            making.warn(f"{found.value} is no {name.replace('_', ' ')} (from {low} to {high:,}); it is left out", *found.facts)


def question_of(job: Job) -> LaunchQuestion:
    """The question that a job asks of memcalc."""
    making = Making(job)
    model, facts, weights = model_of(making)
    if model is None:
        making.ask("model")
    gpu = making.value("gpu")
    (serving if job.kind.task == "infer" else training)(making, weights)
    _drop_impossible(making)
    assumed = tuple(
        f"{name.replace('_', ' ')} {_shown(fact)}: {fact.why}" for name, fact in making.facts.items()
        if fact.entry is None and "default" in fact.why
    )  # fmt: skip
    asks = tuple(dict.fromkeys((*making.asks, *_open(making))))
    named = gpu if isinstance(gpu, str) else None
    return LaunchQuestion(job.kind.task, model, named, making.settings, asks, tuple(making.warnings), facts, assumed, weights)


def _open(making: Making) -> list[str]:
    """Settings that a file leaves to a variable that it does not set, or to a value that cannot be read."""
    from memcalc.specs.parallelism import Parallelism
    from memcalc.specs.serving import Serving
    from memcalc.specs.training import Training

    fields = (
        {**Serving.model_fields} if making.job.kind.task == "infer" else {**Training.model_fields, **Parallelism.model_fields}
    )
    named = [FIELDS.get(row.about, row.about) for row in making.job.reading.imported
             if row.about and row.about not in making.facts]  # fmt: skip
    return [name for name in named if name in fields and name not in making.settings]


def _shown(fact: Fact) -> str:
    value = fact.value
    return (
        ",".join(map(str, value)) if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else str(value)
    )


def became(facts: Facts, question: LaunchQuestion) -> dict[str, list[str]]:
    """Fact → the settings that it became, by field."""
    out: dict[str, list[str]] = {name: [] for name in facts}
    for field, setting in question.settings.items():
        for name in setting.facts:
            out[name].append(field)
    for name in question.model_facts:
        if name in out:
            out[name].append("MODEL")
    return out
