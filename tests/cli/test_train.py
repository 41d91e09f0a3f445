"""`memcalc train`: MODEL in all its forms, every strategy, the JSON contract, fit and exit codes."""

import json
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]
Folder = Callable[..., str]

# every key that scripts may rely on; DESIGN.md, section 3
CONTRACT = (
    "schema", "model.name", "model.parameters", "model.active_parameters", "model.embedding_parameters",
    "per_gpu.parameters", "per_gpu.gradients", "per_gpu.optimizer_states", "per_gpu.activations",
    "per_gpu.communication", "per_gpu.overhead", "per_gpu.steady", "per_gpu.after_forward",
    "per_gpu.peak_forward_backward",
    "per_gpu.peak_optimizer_step", "per_gpu.peak", "per_gpu.low", "per_gpu.high", "per_gpu.reserved", "per_gpu.device",
    "gpu.name", "gpu.memory", "gpu.usable", "gpu.limit", "gpu.verdict", "gpu.fits", "gpu.headroom",
    "per_gpu.needed", "per_gpu.needed_low", "per_gpu.needed_high", "host.per_node",
    "lines.0.path", "lines.0.bytes", "lines.0.phase", "lines.0.formula", "lines.0.inputs", "lines.0.source",
    "assumptions", "warnings", "sources",
)  # fmt: skip
WHOLE = {path for path in CONTRACT if path.startswith(("per_gpu.", "host.")) or path.endswith(("memory", "usable", "headroom"))}


def field(document: Any, path: str) -> Any:
    for key in path.split("."):
        document = document[int(key)] if isinstance(document, list) else document[key]
    return document


STRATEGIES = (
    "", "--gpus 8", "--gpus 8 --ddp", *(f"--gpus 8 --zero {stage}" for stage in range(4)),
    *(f"--gpus 16 --fsdp {name}" for name in ("full", "grad-op", "hybrid", "none")),
    "--gpus 8 --fsdp hybrid --shard-size 2",
    "--gpus 64 --tp 8 --pp 4 --zero 1 --grad-accum 8", "--gpus 8 --tp 4 --cp 2 --sequence-parallel",
    "--gpus 8 --zero 3 --offload optimizer,parameters", "--gpus 8 --zero 3 --offload optimizer --offload-to nvme",
    "--method lora --lora-rank 8 --lora-targets q,v", "--method qlora", "--recompute full --attention eager",
    "--optimizer adamw-8bit --precision bf16", "--optimizer muon",
    "--gpus 8 --pp 2 --pipeline-schedule gpipe --grad-accum 4",
)  # fmt: skip


@pytest.mark.parametrize("options", STRATEGIES)
def test_contract(memcalc: Run, folder: Folder, options: str) -> None:
    """All keys, whole numbers of bytes, totals that add up, under every strategy."""
    result = memcalc(f"train {folder()} {options} --gpu h100 --format json")
    assert result.code == 0, result.err
    found = result.document
    values = {path: field(found, path) for path in CONTRACT}
    fractions = {path: values[path] for path in WHOLE if type(values[path]) is not int}
    assert not fractions, fractions
    assert values["schema"] == "memcalc/1"
    assert isinstance(values["gpu.fits"], bool)
    assert values["gpu.headroom"] == values["gpu.limit"] - values["per_gpu.needed"]
    assert values["per_gpu.needed"] == values["per_gpu.device"]
    assert values["gpu.fits"] == (values["gpu.headroom"] >= 0)
    assert {line["source"].split(":")[0] for line in found["lines"]} == set(found["sources"])
    for component in ("parameters", "gradients", "optimizer_states", "activations", "communication", "overhead"):
        lines = [x["bytes"] for x in found["lines"] if x["path"].startswith(f"{component}/") and x["place"] == "gpu"]
        assert values[f"per_gpu.{component}"] == sum(lines), component


def test_a_count_has_the_same_contract(memcalc: Run) -> None:
    found = memcalc("train 7B --gpus 8 --zero 2 --gpu h100 --format json").document
    for path in CONTRACT:
        field(found, path)
    assert any("rule of thumb" in assumption for assumption in found["assumptions"])


def test_without_a_gpu_nothing_is_said_about_it(memcalc: Run) -> None:
    assert "gpu" not in memcalc("train 7B --format json").document


# MODEL, parameters, why
MODELS = (
    ("FOLDER", 8_030_261_248, "a folder that holds a config.json"),
    ("FOLDER/", 8_030_261_248, "with a slash"),
    ("FOLDER/config.json", 8_030_261_248, "the file itself"),
    ("7B", 7_000_000_000, "a count"),
    ("6.7e9", 6_700_000_000, "a count in powers of ten"),
    ("124M", 124_000_000, "millions"),
    ("1_000_000", 1_000_000, "underscores"),
    ("llama-3.1-8b", 8_030_261_248, "a preset"),
)


@pytest.mark.parametrize(("model", "parameters", "why"), MODELS)
def test_model(memcalc: Run, folder: Folder, model: str, parameters: int, why: str) -> None:
    result = memcalc("train", model.replace("FOLDER", folder()), "--get", "model.parameters")
    assert result.code == 0, f"{why}: {result.err}"
    assert result.out == f"{parameters}\n", f"{why}: {result.out}"


def test_a_config_in_the_current_folder(memcalc: Run, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder())
    for model in (".", "config.json", "./config.json"):
        assert memcalc("train", model, "--get", "model.parameters").out == "8030261248\n", model


def test_own_presets(memcalc: Run, tmp_path: Any, config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    values = config("meta-llama/Meta-Llama-3.1-8B", num_hidden_layers=2)
    keys = ("model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "vocab_size")  # fmt: skip
    table = "\n".join(f"{key} = {json.dumps(values[key])}" for key in keys)
    (tmp_path / "models" / "mine.toml").write_text(f'name = "Mine"\nsource = "here"\n[architecture]\n{table}\n')
    assert memcalc("train", "mine", "--presets", str(tmp_path), "--get", "model.parameters").out == "1486901248\n"
    monkeypatch.setenv("MEMCALC_PRESETS", str(tmp_path))
    assert memcalc("train mine --get model.name").out == "Mine\n"


# options, the moment or component that they must change, and how it compares with the plain run
EFFECTS = (
    ("--precision fp32", "per_gpu.parameters", "more"),
    ("--precision bf16", "per_gpu.optimizer_states", "less"),
    ("--optimizer sgd", "per_gpu.optimizer_states", "less"),
    ("--optimizer adamw-8bit", "per_gpu.optimizer_states", "less"),
    ("--micro-batch 2", "per_gpu.activations", "more"),
    ("--seq-len 8k", "per_gpu.activations", "more"),
    ("--recompute full", "per_gpu.activations", "less"),
    ("--attention eager", "per_gpu.activations", "more"),
    ("--grad-accum 2", "per_gpu.after_forward", "more"),
    ("--gpus 8", "per_gpu.communication", "more"),
    ("--gpus 8 --zero 1", "per_gpu.optimizer_states", "less"),
    ("--gpus 8 --zero 2", "per_gpu.gradients", "less"),
    ("--gpus 8 --zero 3", "per_gpu.parameters", "less"),
    ("--gpus 8 --fsdp full", "per_gpu.parameters", "less"),
    ("--gpus 2 --tp 2", "per_gpu.parameters", "less"),
    ("--gpus 2 --tp 2 --sequence-parallel", "per_gpu.activations", "less"),
    ("--gpus 2 --pp 2", "per_gpu.parameters", "less"),
    ("--gpus 2 --cp 2", "per_gpu.activations", "less"),
    ("--method lora", "per_gpu.gradients", "less"),
    ("--method lora --lora-rank 64", "per_gpu.trainable_parameters", "less"),
    ("--method lora --lora-targets q", "per_gpu.trainable_parameters", "less"),
    ("--method qlora", "per_gpu.parameters", "less"),
    ("--gpus 8 --zero 3 --offload optimizer", "per_gpu.optimizer_states", "less"),
    ("--gpus 8 --zero 3 --offload optimizer", "host.per_node", "more"),
    ("--gpus 8 --zero 3 --offload optimizer --offload-to nvme", "host.nvme_per_node", "more"),
)


@pytest.mark.parametrize(("options", "path", "how"), EFFECTS)
def test_every_option_does_something(memcalc: Run, folder: Folder, options: str, path: str, how: str) -> None:
    plain, changed = (int(memcalc(f"train {folder()} {each} --get {path}").out) for each in ("--precision bf16-mixed", options))
    assert changed > plain if how == "more" else changed < plain, f"{path}: {plain:,} B plainly, {changed:,} B with {options}"


def test_expert_parallelism_divides_experts(memcalc: Run, folder: Folder) -> None:
    model = folder("mistralai/Mixtral-8x22B-v0.1")
    plain, ep, etp = (
        int(memcalc(f"train {model} --gpus 8 {each} --get per_gpu.parameters").out) for each in ("", "--ep 8", "--ep 4 --etp 2")
    )
    assert ep == etp < plain / 6


def test_fits_and_its_opposite(memcalc: Run, folder: Folder) -> None:
    good = memcalc(f"train {folder()} --gpus 8 --zero 3 --gpu h100")
    assert good.code == 0
    assert "FITS: " in good.out
    bad = memcalc(f"train {folder()} --gpu rtx-4090")
    assert bad.code == 0, "not fitting is an answer, no error"
    assert "DOES NOT FIT: " in bad.out
    assert "Changes that make it fit" in bad.out
    assert memcalc(f"train {folder()} --gpu rtx-4090 --get gpu.fits").out == "false\n"


def test_require_fit(memcalc: Run, folder: Folder) -> None:
    assert memcalc(f"train {folder()} --gpus 8 --zero 3 --gpu h100 --require-fit").code == 0
    failed = memcalc(f"train {folder()} --gpu rtx-4090 --require-fit --format json")
    assert failed.code == 1
    assert failed.document["gpu"]["fits"] is False, "the report is printed all the same"
    assert failed.err == ""


# command, what the one line must contain
REFUSED = (
    ("train lama-3.1-8b", ("unknown model 'lama-3.1-8b'", "did you mean llama-3.1-8b")),
    ("train 7B --optimizer adamv", ("--optimizer: ", "did you mean adam or adamw")),
    ("train 7B --precision bf15", ("--precision: ", "did you mean bf16?")),
    ("train 7B --zeo 3", ("--zeo", "--zero")),
    ("train 7B --zero 9", ("--zero: must be a whole number between 0 and 3, not 9",)),
    ("train 7B --zero three", ("--zero", "'three'")),
    ("train 7B --fsdp ful", ("--fsdp: ", "did you mean full?")),
    ("train 7B --gpus 6 --tp 4", ("--gpus, --tp: ", "use 4 GPUs")),
    ("train 7B --gpus 8 --zero 3 --fsdp full", ("--zero, --fsdp: ", "choose one")),
    ("train 7B --gpus 8 --ddp --zero 1", ("--ddp, --zero: ", "choose one")),
    ("train 7B --gpus 8 --shard-size 4", ("--shard-size, --fsdp: ", "add fsdp full")),
    ("train 7B --gpus 8 --fsdp full --shard-size 3", ("--shard-size: ", "(try 1, 2, 4, 8)")),
    ("train 7B --gpus many", ("--gpus", "'many' is not a count")),
    ("train 7B --gpus 0", ("--gpus: ", "between 1 and 10,000,000")),
    ("train 7B --gpus 1e30", ("--gpus: ", "between 1 and 10,000,000")),
    ("train 7B --gpus", ("--gpus", "requires an argument")),
    ("train 7B --gpu h1000", ("unknown GPU 'h1000'", "did you mean h100")),
    ("train 7B --seq-len 4.5", ("--seq-len", "not a whole number")),
    ("train 7B --offload optimiser --zero 3", ("--offload: ", "did you mean optimizer?")),
    ("train 7B --offload parameters", ("--offload, --zero: ", "zero 3, or fsdp full")),
    ("train 7B --require-fit", ("--require-fit", "needs a --gpu")),
    ("train 7B --tp 2 --gpus 2", ("--tp, ", "needs an architecture")),
    ("train 7B --method lora", ("--method: ", "needs an architecture")),
    ("train 0B", ("between 1 and 1e18",)),
    ("train 1e30", ("between 1 and 1e18",)),
    ("train 7.5.5B", ("'7.5.5B' is not a count",)),
    ("train nowhere/config.json", ("nowhere/config.json: no such file",)),
    ("train model.gguf", ("model.gguf: ", "no such file")),
    ("train ''", ("''",)),
    ("train 7B 13B", ("unexpected extra argument",)),
    ("train 7B --format yaml", ("--format", "'yaml' is not one of")),
    ("train 7B --get per_gpu.pek", ("--get: ", "did you mean peak?")),
    ("train 7B --get per_gpu.peak.x", ("--get: no field",)),
    ("train 7B --get lines.99", ("--get: no field",)),
    ("train MODEL --gpus 5 --tp 5", ("--tp: ", "(try 1, 2, 4, 8, 16, 32)")),
    ("train MODEL --gpus 33 --pp 33", ("--pp: ", "at most 32")),
    ("train MODEL --gpus 2 --ep 2", ("--ep: ", "no routed experts")),
    ("train MODEL --sequence-parallel", ("--sequence-parallel, --tp: ",)),
    ("train MODEL --method lora --lora-targets qqq", ("--lora-targets: ", "all-linear")),
    ("train MODEL --seq-len 4097 --gpus 2 --cp 2", ("--cp, --seq-len: ",)),
)


@pytest.mark.parametrize(("command", "words"), REFUSED)
def test_refused_in_one_line(memcalc: Run, folder: Folder, command: str, words: tuple[str, ...]) -> None:
    result = memcalc(*(folder() if word == "MODEL" else word.strip("'") for word in command.split()))
    assert (result.code, result.out) == (2, ""), f"exit {result.code}, stdout {result.out[:200]}"
    assert result.err.count("\n") == 1, result.err
    assert result.err.startswith("memcalc: ")
    missing = [word for word in words if word not in result.err]
    assert not missing, f"{missing} not said in: {result.err}"


BROKEN = (
    b"", b"{", b"[]", b"null", b"\xff\xfe", b"\x00", b'{"a":' * 5000, b'{"model_type": "llama"}',
    b'{"hidden_size": NaN}', b"9" * 5000,
)  # fmt: skip


@pytest.mark.parametrize("content", BROKEN, ids=lambda content: repr(content[:20]))
def test_broken_configs_in_one_line(memcalc: Run, tmp_path: Any, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    result = memcalc("train", str(tmp_path / "config.json"))
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1, result.err
    assert "config.json" in result.err
    assert "Traceback" not in result.err


def test_a_folder_without_config(memcalc: Run, tmp_path: Any) -> None:
    result = memcalc("train", str(tmp_path))
    assert result.code == 2
    assert "holds no config.json" in result.err


def test_an_unknown_family_is_read_with_a_warning(memcalc: Run, folder: Folder) -> None:
    result = memcalc("train", folder(model_type="brandnew"), "--format", "json")
    assert result.code == 0
    assert any("brandnew" in warning for warning in result.document["warnings"]), result.document["warnings"]


def test_no_arguments_says_what_is_missing(memcalc: Run) -> None:
    result = memcalc("train")
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert "MODEL is missing" in result.err
    assert "memcalc train --help" in result.err


def test_deterministic(memcalc: Run, folder: Folder) -> None:
    command = f"train {folder()} --gpus 8 --zero 3 --gpu h100 --format json"
    assert memcalc(command).out == memcalc(command).out
