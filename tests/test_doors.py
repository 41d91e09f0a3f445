"""One table of questions asked through every door: the command line, a sizing file, and Python with names, dicts and specs.

Whoever asks gets the same answer and the same refusal, since all doors lead into memcalc.sizing.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import memcalc as api
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.serving import Serving
from memcalc.specs.training import Training

Settings = Mapping[str, Any]
REMEMBERS = hasattr(Training, "model_fields_set")  # whether a spec knows a default that was given from one that was not


class Question(NamedTuple):
    kind: str  # "training" or "serving"
    model: str
    gpu: str
    settings: Settings

    @property
    def id(self) -> str:
        return " ".join((self.kind, self.model, *(f"{name}={value}" for name, value in self.settings.items())))


def train(model: str, gpu: str = "h100", **settings: Any) -> Question:
    return Question("training", model, gpu, settings)


def serve(model: str, gpu: str = "h100", **settings: Any) -> Question:
    return Question("serving", model, gpu, settings)


# Quantised checkpoints, whose own formats decide; published with a quantization_config.
QUANTISED = (
    "deepseek-r1", "deepseek-v3", "deepseek-v3.1", "deepseek-v3.2", "deepseek-v4-flash", "gpt-oss-20b", "gpt-oss-120b",
    "kimi-k2", "mimo-v2-flash", "minimax-m2",
)  # fmt: skip

QUESTIONS = (
    train("llama-3.1-8b"),
    train("llama-3.1-8b", gpus=8, zero=1),
    train("llama-3.1-8b", gpus=8, zero=3, recompute="full", seq_len=8192),
    train("llama-3.1-8b", gpus=16, fsdp="hybrid", gpus_per_node=8, micro_batch=2),
    train("llama-3.1-8b", gpus=8, fsdp="full", shard_size=4),
    train("llama-3.1-8b", gpus=8, tp=4, sequence_parallel=True, attention="flash"),
    train("llama-3.1-70b", gpus=64, tp=8, pp=8, grad_accum=32, pipeline_schedule="interleaved"),
    train("llama-3.1-8b", gpus=8, cp=4, cp_kind="all-gather", seq_len=32768),
    train("llama-3.1-8b", gpus=8, zero=2, offload=("optimizer",), offload_to="cpu"),
    train("llama-3.1-8b", "l4", method="qlora", lora_rank=64, lora_targets=("q", "v"), base_format="nf4"),
    train("llama-3.1-8b", method="lora", lora_dropout=0.1, precision="bf16"),
    train("llama-3.1-8b", freeze=("embeddings",), optimizer="adamw-8bit"),
    train("llama-3.1-8b", recompute="full", recompute_every=2),
    train("mixtral-8x7b", "h200", gpus=16, ep=4, etp=2, zero=1, expert_imbalance=1.5),
    train("qwen3-30b-a3b", gpus=8, ep=8, capacity_factor=1.25, pad_to_capacity=True),
    train("gpt2", "l4", micro_batch=8),  # reaches 1024 tokens
    train("gpt2", "l4", micro_batch=8, seq_len=512),
    train("t5-base", "l4"),
    train("7B", gpus=8, zero=3),
    train("1.3B", "l4", precision="fp32"),
    *(serve(model, "h200", tp=8) for model in QUANTISED),
    serve("gpt-oss-20b", "l4", engine="vllm", context=4096),
    serve("gpt-oss-20b", engine="sglang", weights="fp8"),
    serve("llama-3.1-8b"),
    serve("llama-3.1-8b", engine="vllm", context=32768, batch=8),
    serve("llama-3.1-8b", "l4", weights="int4-g128", kv_dtype="fp8-e4m3"),
    serve("llama-3.1-8b", "l4", engine="llama.cpp", weights="Q4_K_M", gpu_layers=20),
    serve("llama-3.1-8b", engine="vllm", gpu_memory_utilization=0.8, max_sequences=64, eager=True),
    serve("llama-3.1-8b", max_new_tokens=512, samples=4, batch=2),
    serve("llama-3.1-8b", engine="vllm", lora_adapters=4, lora_rank=64),
    serve("llama-3.1-70b", tp=2, pp=2, weights="fp8"),
    serve("gpt2", "l4"),  # reaches 1024 tokens
    serve("gpt2", "l4", context=2048),
    serve("llama-3.1-8b", precision="fp16"),
    serve("gpt-oss-20b", precision="bf16"),
    serve("llama-3.1-8b", draft="llama-3.2-1b", engine="vllm"),
)
# A default that is given stays, whatever the model says.
GIVEN_DEFAULTS = (
    train("gpt2", "l4", seq_len=4096),
    serve("gpt-oss-20b", weights="bf16", engine="vllm"),
    serve("gpt2", "l4", context=4096),
)


class Answer(NamedTuple):
    """Bytes on the device (the pool, of engines that take one) and per node in host memory; requests that fit."""

    device: int
    host: int
    sequences: int | None


Run = Callable[..., Any]
COMMANDS = {"training": "train", "serving": "infer"}
SPECS: dict[str, type] = {"training": Training, "serving": Serving}
SIZE = {"training": api.size_training, "serving": api.size_serving}
LIMITS: dict[str, dict[str, float]] = {
    "training": {"device_memory": 1, "host_memory": 0},
    "serving": {"device_memory": 1, "host_memory": 0, "min_sequences": 1},
}


def nested(kind: str, settings: Settings) -> dict[str, Any]:
    """The settings as a sizing file has them: those of Parallelism in a table of their own."""
    own = tuple(Parallelism.model_fields) if kind == "training" else ()
    table = {name: value for name, value in settings.items() if name in own}
    rest = {name: value for name, value in settings.items() if name not in own}
    return {**rest, "parallelism": table} if table else rest


def in_file(question: Question) -> bool:
    """Whether every setting has a key in the file."""
    return set(nested(question.kind, question.settings)) <= set(SPECS[question.kind].model_fields)


def flags(settings: Settings) -> list[str]:
    words: list[str] = []
    for name, value in settings.items():
        words.append(f"--{name.replace('_', '-')}")
        if value is not True:
            words.append(",".join(value) if isinstance(value, tuple) else str(value))
    return words


def toml(question: Question, name: str) -> str:
    """A scenario, its tables on one line each."""

    def inline(values: Settings) -> str:
        return (
            "{ " + ", ".join(f"{k} = {inline(v) if isinstance(v, dict) else json.dumps(v)}" for k, v in values.items()) + " }"
        )

    return (
        f"[scenario.{name}]\nmodel = {json.dumps(question.model)}\ngpu = {json.dumps(question.gpu)}\n"
        f"{question.kind} = {inline(nested(question.kind, question.settings))}\nlimits = {inline(LIMITS[question.kind])}\n"
    )


def by_names(question: Question) -> Any:
    return SIZE[question.kind](question.model, question.gpu, **question.settings)


def by_dicts(question: Question) -> Any:
    model = api.read_model(question.model)
    given = model if model.architecture is None else model.architecture
    return SIZE[question.kind](given, question.gpu, **nested(question.kind, question.settings))


def by_specs(question: Question) -> Any:
    values = nested(question.kind, question.settings)
    if "parallelism" in values:
        values["parallelism"] = Parallelism(**values["parallelism"])
    model, gpu = api.read_model(question.model), api.accelerator(question.gpu)
    return SIZE[question.kind](model, gpu, SPECS[question.kind](**values))


def of_estimate(found: Any) -> Answer:
    if isinstance(found, api.TrainingEstimate):
        return Answer(found.device, found.host_per_node, None)
    return Answer(found.device_there, found.host, found.capacity(found.gpu.allocatable).max_batch)


def of_document(document: dict[str, Any]) -> Answer:
    if document["command"] == "train":
        return Answer(document["per_gpu"]["device"], document["host"]["per_node"], None)
    return Answer(document["per_gpu"]["device"], document.get("host", {}).get("per_node", 0), document["capacity"]["max_batch"])


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[Question, Answer]:
    """What one sizing file with every question says."""
    asked = [question for question in (*QUESTIONS, *GIVEN_DEFAULTS) if in_file(question)]
    path = tmp_path_factory.mktemp("doors") / "memcalc.toml"
    path.write_text("".join(toml(question, f"q{number}") for number, question in enumerate(asked)), encoding="utf-8")
    found = {}
    for question, outcome in zip(asked, api.check(path), strict=True):
        values = {check.limit: check.value for check in outcome.checks}
        found[question.id] = Answer(
            int(values["device_memory"]),
            int(values["host_memory"]),
            values.get("min_sequences") and int(values["min_sequences"]),
        )
    return found


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.id)
def test_every_door_gives_the_same_answer(question: Question, memcalc: Run, checked: dict[str, Answer]) -> None:
    sized = by_names(question)
    expected = of_estimate(sized)
    words = (COMMANDS[question.kind], question.model, "--gpu", question.gpu, *flags(question.settings), "--format", "json")
    document = memcalc(*words).document
    assert of_document(document) == expected
    assert json.loads(json.dumps(sized.to_dict())) == document
    assert of_estimate(by_dicts(question)) == expected
    assert (sized.fits, sized.headroom) == (document["gpu"]["fits"], document["gpu"]["headroom"])
    if in_file(question):
        assert checked[question.id] == expected
        assert of_estimate(by_specs(question)) == expected


@pytest.mark.parametrize("question", GIVEN_DEFAULTS, ids=lambda question: question.id)
def test_what_is_given_goes_before_what_the_model_says(question: Question, memcalc: Run, checked: dict[str, Answer]) -> None:
    (name, value), *_ = question.settings.items()
    words = (COMMANDS[question.kind], question.model, "--gpu", question.gpu, *flags(question.settings), "--format", "json")
    document = memcalc(*words).document
    assert document["run"][name] == value
    expected = of_document(document)
    assert of_estimate(by_names(question)) == of_estimate(by_dicts(question)) == expected
    if REMEMBERS:
        assert checked[question.id] == of_estimate(by_specs(question)) == expected


def test_no_door_sizes_a_model_beyond_what_it_reaches(tmp_path: Path) -> None:
    """All presets that reach less than the 4096 tokens of other models, in one sizing file and in Python."""
    models = {name: api.read_model(name) for name in api.models()}
    short = {name: m for name, m in models.items() if m.architecture and 0 < (m.architecture.context or 0) < 4096}
    assert len(short) >= 80
    asked = [ask(name, "h200") for name in short for ask in (train, serve)]
    path = tmp_path / "memcalc.toml"
    path.write_text("".join(toml(question, f"q{number}") for number, question in enumerate(asked)), encoding="utf-8")
    for question, outcome in zip(asked, api.check(path), strict=True):
        sized = SIZE[question.kind](short[question.model], question.gpu)
        length = sized.run.seq_len if question.kind == "training" else sized.run.context
        assert length == short[question.model].architecture.context, question.model
        assert outcome.checks[0].value == sized.device, question.model


# --- refusals ---------------------------------------------------------------------------------------------------------

REFUSED = (
    (train("llama-3.1-8b", lora_rank=8), "is the rank of adapters that have one; add method lora, qlora, dora"),
    (train("llama-3.1-8b", lora_targets=("q",)), "belongs to adapters"),
    (train("llama-3.1-8b", lora_dropout=0.1), "belongs to adapters"),
    (train("llama-3.1-8b", method="lora", base_format="nf4"), "add method qlora"),
    (train("llama-3.1-8b", offload_to="nvme"), "says where to; add offload"),
    (train("llama-3.1-8b", gpus=8, pipeline_schedule="gpipe"), "orders pipeline stages; add pp"),
    (train("llama-3.1-8b", cp_kind="all-to-all"), "cp"),
    (train("mixtral-8x7b", expert_imbalance=2.0), "ep"),
    (train("mixtral-8x7b", pad_to_capacity=True), "add a capacity_factor"),
    (train("llama-3.1-8b", recompute_every=2), "add recompute full"),
    (train("llama-3.1-8b", recompute_layers=2), "add recompute full"),
    (train("llama-3.1-8b", zero=5), "between 0 and 3, not 5"),
    (train("llama-3.1-8b", gpus=8, zero=3, fsdp="full"), "both shard the model states"),
    (train("llama-3.1-8b", gpus=7, tp=2), "must divide gpus"),
    (train("llama-3.1-8b", gpus=3, tp=3), "does not divide 32 attention heads"),
    (train("llama-3.1-8b", recompute="ful"), "did you mean full?"),
    (train("7B", gpus=8, tp=8), "needs an architecture to place"),
    (train("llama-3.1-8b", "h1oo"), "unknown GPU"),
    (train("llama-9"), "unknown model"),
    (serve("llama-3.1-8b", lora_rank=8), "add lora_adapters"),
    (serve("llama-3.1-8b", draft_tokens=4), "a draft and the number of tokens that it guesses go together"),
    (serve("llama-3.1-8b", gpu_layers=4), "needs an engine that puts layers where one says"),
    (serve("llama-3.1-8b", weights="q99"), "is no way to store weights"),
    (serve("llama-3.1-8b", samples=2), "several answers to a prompt need the number of new tokens"),
    (serve("llama-3.1-8b", precision="int8"), "other formats: --weights"),
    (serve("llama-3.1-8b", precision="fp16", weights="fp8"), "say two formats"),
    (serve("gpt2", max_new_tokens=2000), "leave no prompt in a context of 1024"),
    (serve("7B"), "says nothing about keys and values"),
)


@pytest.mark.parametrize(("question", "words"), REFUSED, ids=[question.id for question, _ in REFUSED])
def test_every_door_refuses_the_same_way(question: Question, words: str, memcalc: Run, tmp_path: Path) -> None:
    doors: list[Callable[[Question], Any]] = [by_names, by_dicts]
    doors += [by_specs] if in_file(question) else []
    said = []
    for door in doors:
        with pytest.raises(api.MemcalcError) as error:
            door(question)
        said.append(getattr(error.value, "message", str(error.value)))
    assert words in said[0]
    found = memcalc(COMMANDS[question.kind], question.model, "--gpu", question.gpu, *flags(question.settings))
    assert (found.code, said[0] in found.err) == (2, True), found.err
    if not in_file(question):
        assert set(said) == {said[0]}
        return
    path = tmp_path / "memcalc.toml"
    path.write_text(toml(question, "q"), encoding="utf-8")
    found = memcalc("check", str(path))
    assert (found.code, said[-1] in found.err) == (2, True), found.err


@pytest.mark.parametrize("table", [{}, {"parallelism": {"zeroo": 3}}])
def test_a_name_that_nothing_has_is_refused_with_the_nearest(table: Settings, memcalc: Run, tmp_path: Path) -> None:
    with pytest.raises(api.SpecError, match=r"^zeroo: unknown key; did you mean zero"):
        api.size_training("llama-3.1-8b", **(table or {"zeroo": 3}))
    path = tmp_path / "memcalc.toml"
    path.write_text(toml(train("llama-3.1-8b"), "q").replace("training = {", "training = { parallelism = { zeroo = 3 }"))
    assert "zeroo: unknown key; did you mean zero?" in memcalc("check", str(path)).err
    assert "--zero" in memcalc("train", "llama-3.1-8b", "--zeroo", "3").err


# --- what Python has beside -------------------------------------------------------------------------------------------


def test_an_estimate_answers_in_one_line() -> None:
    step, served = api.size_training("llama-3.1-8b", "h100"), api.size_serving("llama-3.1-8b", "h100")
    for found in (step, served):
        assert len(repr(found)) < 200
        assert "fit" in repr(found)
        assert found.fits is (found.headroom >= 0)
    architecture = api.read_model("llama-3.1-8b").architecture
    assert architecture is not None
    for found in (api.estimate_training(architecture, Training()), api.estimate_serving(architecture, Serving())):
        assert len(repr(found)) < 200
    alone = api.size_training("llama-3.1-8b")
    assert (alone.fits, alone.headroom) == (None, None)


def test_settings_go_before_a_spec_and_tables_beside_names() -> None:
    run = Training(parallelism=Parallelism(gpus=8, zero=3), micro_batch=2)
    found = api.size_training("llama-3.1-8b", run=run, micro_batch=4, parallelism={"zero": 2}).run
    assert (found.micro_batch, found.parallelism.zero, found.parallelism.gpus) == (4, 2, 8)
    assert api.size_training("llama-3.1-8b", parallelism=Parallelism(gpus=8), tp=2).run.parallelism.gpus == 8


def test_a_model_is_a_name_a_count_a_config_or_an_architecture(config: Callable[..., dict[str, Any]]) -> None:
    values = config("meta-llama/Llama-3.2-1B")
    architecture = api.read_config(values)
    expected = api.estimate_training(architecture, Training()).device
    assert api.size_training(values).device == api.size_training(architecture).device == expected
    assert api.size_training(7_000_000_000).device == api.size_training("7B").device
    for wrong in (None, True, 1.5, ["gpt2"]):
        with pytest.raises(api.InputError, match="MODEL"):
            api.size_training(wrong)  # type: ignore[arg-type]
    with pytest.raises(api.InputError, match="gpu: "):
        api.size_training("gpt2", 80)  # type: ignore[arg-type]


def test_a_scenario_is_checked_as_a_file_is() -> None:
    scenario = api.Scenario(model="gpt-oss-20b", gpu="l4", serving=Serving(engine="vllm", context=4096),
                            limits=api.Limits(memory_utilization=0.95))  # fmt: skip
    (outcome,) = api.check(scenario)
    assert outcome.holds
    assert 0.6 < outcome.checks[0].value < 0.8
