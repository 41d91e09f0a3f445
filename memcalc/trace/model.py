"""A model without weights from the values of a config.json, and hooks that keep a book's `module` right while it runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from memcalc.errors import Unsupported
from memcalc.frozen import NamedTuple
from memcalc.trace.allocations import Allocations
from memcalc.trace.spread import spread_evenly

# Keys that say how a checkpoint was stored or where code is to be fetched, not what the model is
NOT_THE_MODEL = ("quantization_config", "torch_dtype", "dtype", "auto_map", "_name_or_path")


class Child(NamedTuple):
    """A module that a layer calls, in the order of its calls."""

    name: str
    norm: bool
    weights: bool


class Names:
    """Who is running. Set by hooks; a layer's own operations (adding residuals) count to the child that ran last.

    `layers` is the path of the stack of layers. A layer's input belongs to the layer itself, the stack's result to the stack.
    """

    def __init__(self, allocations: Allocations, layers: str) -> None:
        self.allocations = allocations
        self.layers = layers
        self.children: dict[int, list[Child]] = {}
        self.entry: list[str] = []  # what embeds: called before the first layer
        self.exit: list[Child] = []  # called after the last one
        self._running: list[str] = []
        self._last: dict[str, str] = {}

    def restart(self) -> None:
        """Before a forward: a recomputation may have stopped in the middle of a module."""
        self._running, self._last = [], {}
        self.allocations.module = ""

    def enter(self, path: str, module: Any) -> None:
        self._running.append(path)
        self.allocations.module = path
        parent, _, child = path.rpartition(".")
        stack, _, index = parent.rpartition(".")
        if stack == self.layers != "":
            self._last[parent] = path
            self._add(self.children.setdefault(int(index), []), child, module)
        elif not f"{self.layers}.".startswith(f"{path}.") and not path.startswith(f"{self.layers}."):
            if self._last:
                self._add(self.exit, path, module)
            elif "rotary" not in type(module).__name__.lower() and path not in self.entry:
                self.entry.append(path)

    def leave(self) -> None:
        self._running.pop()
        path = self._running[-1] if self._running else ""
        self.allocations.module = self._last.get(path, path)

    @staticmethod
    def _add(found: list[Child], name: str, module: Any) -> None:
        if all(known.name != name for known in found):
            found.append(Child(name, "norm" in type(module).__name__.lower(), any(True for _ in module.parameters())))


def build(values: Mapping[str, Any], *, half: bool, attention: str) -> Any:
    """The causal (or masked) language model of a config, without weights, on the meta device."""
    import torch
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kept = {key: value for key, value in values.items() if key not in NOT_THE_MODEL}
    model_type = kept.pop("model_type", None)
    if model_type not in CONFIG_MAPPING:
        raise Unsupported(f"trace: this transformers has no model_type {model_type!r:.40}")
    config = CONFIG_MAPPING[model_type].from_dict({**kept, "model_type": model_type})
    config.use_cache = config.get_text_config().use_cache = False
    maker = getattr(transformers, _maker(model_type, values.get("architectures") or ()))
    if type(config) not in maker._model_mapping and type(config) in transformers.AutoModelForAudioClassification._model_mapping:
        maker = transformers.AutoModelForAudioClassification
    if type(config) not in maker._model_mapping:  # a language model that has its class together with a tower alone
        maker = transformers.AutoModelForImageTextToText
    if type(config) not in maker._model_mapping:
        raise Unsupported(f"trace: transformers has no model of model_type {model_type!r:.40} with a loss that trace can step")
    if attention == "sdpa" and not maker._model_mapping[type(config)]._supports_sdpa:
        raise Unsupported(f"trace: transformers has no sdpa attention for {model_type!r:.40}; add --attention eager")
    with torch.device("meta"):
        model = maker.from_config(config, dtype=torch.bfloat16 if half else torch.float32, attn_implementation=attention)
    spread_evenly(model)
    return model


SEQ2SEQ = (
    "t5", "mt5", "umt5", "longt5", "switch_transformers", "bart", "mbart", "mvp", "pegasus", "pegasus_x", "bigbird_pegasus",
    "m2m_100", "nllb-moe", "marian", "fsmt", "led", "blenderbot", "blenderbot-small", "prophetnet",
)  # fmt: skip
# What a model of this class, or of this model_type, is made by; else as a causal language model
MAKERS = {
    "ForCausalLM": "AutoModelForCausalLM",
    "ForMaskedLM": "AutoModelForMaskedLM",
    "ForSequenceClassification": "AutoModelForSequenceClassification",
    "ForTokenClassification": "AutoModelForTokenClassification",
    "ForImageClassification": "AutoModelForImageClassification",
    **dict.fromkeys(("whisper", "moonshine"), "AutoModelForSpeechSeq2Seq"),
    **dict.fromkeys(SEQ2SEQ, "AutoModelForSeq2SeqLM"),
}


def _maker(model_type: str, classes: Sequence[str]) -> str:
    named = next((maker for end, maker in MAKERS.items() if any(name.endswith(end) for name in classes)), None)
    return named or MAKERS.get(model_type, "AutoModelForCausalLM")


def named(model: Any, allocations: Allocations) -> Names:
    """Hook every module of the model."""
    names = Names(allocations, _stack_of(model))
    for path, module in model.named_modules():
        module.register_forward_pre_hook(_before(names, path), with_kwargs=True)
        module.register_forward_hook(_after(names, path))
    return names


def _stack_of(model: Any) -> str:
    """The path of the list of decoder layers: the first list of as many modules as the config has layers."""
    import torch

    depth = model.config.get_text_config().num_hidden_layers
    lists = ((path, module) for path, module in model.named_modules() if isinstance(module, torch.nn.ModuleList))
    return next((str(path) for path, module in lists if len(module) == depth), "")


def _before(names: Names, path: str) -> Any:
    is_layer = path.rpartition(".")[0] == names.layers != ""

    def hook(module: Any, args: Any, kwargs: Any) -> None:
        names.enter(path, module)
        if is_layer:
            names.allocations.assign(_first_tensor((args, kwargs)), path)

    return hook


def _after(names: Names, path: str) -> Any:
    is_layer = path.rpartition(".")[0] == names.layers != ""

    def hook(module: Any, args: Any, output: Any) -> None:
        names.leave()
        if is_layer:
            names.allocations.assign(_first_tensor(output), names.layers)

    return hook


def _first_tensor(values: Any) -> Any:
    from torch.utils._pytree import tree_leaves

    return next(leaf for leaf in tree_leaves(values) if hasattr(leaf, "untyped_storage"))
