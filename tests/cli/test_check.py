"""`memcalc check` and `memcalc schema`: exit codes, one table, one-line errors, schemas that hold."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from memcalc.report.contract import Document

Run = Callable[..., Any]

SIZING = """
model = "llama-3.1-8b"
gpu = "h100"

[training]
seq_len = "8192"
recompute = "full"
[training.parallelism]
gpus = 8
fsdp = "full"

[compute]
tokens = "1T"
mfu = 0.4

[limits]
memory_utilization = 0.9
device_memory = "72GiB"
gpu_hours = 1e6

[scenario.fits]
[scenario.long]
training.seq_len = 131072
[scenario.serve]
serving = { context = 32768, batch = 8 }
limits = { min_sequences = 8 }
"""


@pytest.fixture
def sizing(tmp_path):
    path = tmp_path / "memcalc.toml"

    def write(text=SIZING):
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_one_scenario_exceeds_its_limits(memcalc, sizing):
    found = memcalc("check", sizing(), "--format", "json")
    assert found.code == 1
    scenarios = {entry["name"]: entry for entry in found.document["scenarios"]}
    assert [name for name, entry in scenarios.items() if not entry["ok"]] == ["long"]
    assert found.document["ok"] is False
    assert {check["limit"] for check in scenarios["serve"]["checks"]} == {
        "memory_utilization",
        "device_memory",
        "min_sequences",
    }


def test_all_hold(memcalc, sizing):
    found = memcalc("check", sizing(SIZING.replace("131072", "4096")))
    assert found.code == 0
    assert "all hold" in found.out


def test_a_config_beside_the_file_is_found(memcalc, sizing, tmp_path, config):
    (tmp_path / "tiny.json").write_text(json.dumps(config("meta-llama/Llama-3.2-1B")), encoding="utf-8")
    assert memcalc("check", sizing(SIZING.replace("llama-3.1-8b", "tiny.json").replace("131072", "4096"))).code == 0


WRONG = [
    ("recompute = ", "recomute = ", "training.recomute: unknown key; did you mean recompute"),
    ("gpus = 8", "gpus = 7\ntp = 2", "must divide gpus"),
    ("[limits]", "[limits", "not TOML"),
    ('"h100"', '"h1oo"', "unknown GPU"),
    ('"llama-3.1-8b"', '"llama-9"', "unknown model"),
    ('"72GiB"', '"72G"', "limits.device_memory"),
    ('"1T"', '"many"', "compute.tokens"),
    ("mfu = 0.4", "mfu = 4", "compute.mfu: "),
    ("[compute]\ntokens", "[other]\ntokens", "other: unknown key"),
]


@pytest.mark.parametrize(("old", "new", "message"), WRONG, ids=[case[2][:24] for case in WRONG])
def test_a_wrong_file_is_one_line_that_names_the_key(memcalc, sizing, old, new, message):
    found = memcalc("check", sizing(SIZING.replace(old, new, 1)))
    assert found.code == 2
    assert message in found.err
    assert found.err.count("\n") == 1
    assert not found.out


def test_a_limit_that_the_accelerator_says_nothing_about(memcalc, sizing):
    """No power is published for it, so no energy follows."""
    text = SIZING.replace('"h100"', '"tpu-v5p"').replace("gpu_hours = 1e6", "energy_kwh = 1e6")
    found = memcalc("check", sizing(text))
    assert (found.code, found.err.count("\n")) == (2, 1)
    assert "energy_kwh: the accelerator's data say nothing to compute it from" in found.err


def test_a_file_without_limits_has_nothing_to_check(memcalc, sizing):
    text = SIZING[: SIZING.index("[limits]")]
    found = memcalc("check", sizing(text))
    assert (found.code, "nothing to check" in found.err) == (2, True)


def test_the_sizing_schema_knows_every_table(memcalc):
    schema = memcalc("schema").document
    assert {"model", "gpu", "training", "serving", "limits", "compute", "scenario"} <= set(schema["properties"])
    assert schema["$defs"]["Training"]["properties"]["recompute"]["enum"] == ["none", "selective", "full"]


COMMANDS = [
    ("train", "llama-3.1-8b", "--gpus", "8", "--zero", "3", "--gpu", "h100"),
    ("train", "7B"),
    ("infer", "gemma-2-9b", "--gpu", "h100"),
    ("inspect", "mixtral-8x7b"),
    ("gpus", "h100"),
    ("budget", "--pf-days", "3640"),
    ("budget", "llama-3.1-8b", "--tokens", "1T", "--gpu", "h100"),
    ("chinchilla", "--flops", "1e21"),
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_documents_keep_the_contract(memcalc, arguments):
    document = memcalc(*arguments, "--format", "json").document
    document.pop("gpu") if arguments[0] == "gpus" else None
    TypeAdapter(Document).validate_python(document, strict=True)


def test_the_output_schema_is_printed(memcalc):
    assert {"per_gpu", "compute", "optimal"} <= set(memcalc("schema", "output").document["properties"])


# limits and settings, what would make it pass
REMEDIES = (
    ("[training]\nparallelism = { gpus = 8 }\n[limits]\nmemory_utilization = 0.5", "training.recompute"),
    ("[training]\nparallelism = { gpus = 8, ddp = true }\n[limits]\nmemory_utilization = 0.9", "training.parallelism.zero = 1"),
    ("[serving]\nengine = 'vllm'\ncontext = 32000\n[limits]\nmin_sequences = 20", 'serving.kv_dtype = "fp8"'),
    ("[training]\n[limits]\ndevice_memory = 1000000000", ""),
)


@pytest.mark.parametrize(("settings", "remedy"), REMEDIES)
def test_what_would_make_it_pass(memcalc: Run, tmp_path: Path, settings: str, remedy: str) -> None:
    """One line; written into the file, all limits hold."""
    place = tmp_path / "memcalc.toml"
    place.write_text(f'model = "llama-3.1-8b"\ngpu = "h100"\n{settings}\n')
    first = memcalc(f"check {place} --format json")
    assert first.code == 1
    said = first.document["scenarios"][0]["remedy"] or ""
    assert remedy in said, said
    if not remedy:
        assert said == ""
        return
    assert f"would pass with {said}" in " ".join(memcalc(f"check {place}").out.split())
    lines = said.replace(", training.", "\ntraining.").replace(", serving.", "\nserving.")
    place.write_text(f'model = "llama-3.1-8b"\ngpu = "h100"\n{settings}\n[scenario.changed]\n{lines}\n')
    again = memcalc(f"check {place} --format json")
    assert again.code == 0, f"{lines}: {again.out} {again.err}"


@pytest.mark.parametrize(
    ("keys", "options"),
    [
        ('draft = "llama-3.2-1b"', ["--draft", "llama-3.2-1b"]),
        ('precision = "fp32"', ["--precision", "fp32"]),
    ],
)
def test_what_goes_beside_serving_stands_in_the_file(memcalc, tmp_path, keys, options):
    file = tmp_path / "memcalc.toml"
    limits = '[serving]\nengine = "vllm"\ncontext = 4096\n[limits]\ndevice_memory = "200GB"\n'
    file.write_text(f'model = "llama-3.1-8b"\ngpu = "h200"\n{keys}\n{limits}')
    found = memcalc("check", str(file), "--format", "json").document["scenarios"][0]["checks"][0]["value"]
    typed = ["infer", "llama-3.1-8b", "--gpu", "h200", "--engine", "vllm", "--context", "4096", *options]
    assert found == memcalc(*typed, "--format", "json").document["per_gpu"]["device"]
    file.write_text(file.read_text().replace('[serving]\nengine = "vllm"\ncontext = 4096', "[training]"))
    assert "a setting of serving" in memcalc("check", str(file)).err


LIMITED = """
model = "llama-3.1-8b"
gpus = ["h100", "a100"]
serving = { context = 8192, batch = 8 }
[limits]
kv_tokens = 300_000
ttft_seconds = 0.3
tpot_seconds = 0.03
[scenario.step]
training = { seq_len = 1024, parallelism = { gpus = 8, fsdp = "full" } }
limits = { step_seconds = 0.2 }
[scenario.serve]
"""


def test_limits_on_time_and_tokens_are_what_train_and_infer_say(memcalc, sizing):
    found = memcalc("check", sizing(LIMITED), "--format", "json", "--filter", "h100")
    step, serve = found.document["scenarios"]
    trained = memcalc("train", "llama-3.1-8b", "--gpus", "8", "--fsdp", "full", "--seq-len", "1024", "--gpu", "h100",
                      "--format", "json").document  # fmt: skip
    served = memcalc("infer", "llama-3.1-8b", "--context", "8192", "--batch", "8", "--gpu", "h100", "--format", "json").document
    assert [check["value"] for check in step["checks"]] == [trained["time"]["step_seconds"]]
    assert {check["limit"]: check["value"] for check in serve["checks"]} == {
        "kv_tokens": served["capacity"]["kv_tokens"],
        "ttft_seconds": served["speed"]["ttft_seconds"],
        "tpot_seconds": served["speed"]["tpot_seconds"],
    }
    assert [check["line"] for check in serve["checks"]] == [6, 7, 8]


def test_what_to_change_stands_with_its_line(memcalc, sizing):
    """The setting that the remedy names is in that line, and with it the scenario passes."""
    found = memcalc("check", sizing(), "--format", "json")
    (long,) = (each for each in found.document["scenarios"] if each["name"] == "long")
    assert long["changes"]
    for change in long["changes"]:
        line = SIZING.splitlines()[change["line"] - 1]
        name = change["setting"].rpartition(".")[2]
        assert line.startswith("[") if change["new"] else name in line


def test_a_limit_that_is_not_known_is_refused_with_its_reason_and_line(memcalc, sizing):
    text = LIMITED.replace("llama-3.1-8b", "8B").replace("seq_len = 1024, ", "")
    found = memcalc("check", sizing(text), "--filter", "step / h100")
    assert (found.code, ":11: scenario.step" in found.err or ":11: step" in found.err) == (2, True)
    assert "limits.step_seconds: " in found.err


def test_all_errors_of_all_files_at_once(memcalc, sizing, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(LIMITED.replace("kv_tokens", "kv_tokns").replace("step_seconds", "step_s"), encoding="utf-8")
    found = memcalc("check", sizing(SIZING.replace("llama-3.1-8b", "llama-9")), str(other))
    assert found.code == 2
    assert [line.partition("toml:")[2].partition(":")[0] for line in found.err.splitlines()] == ["6", "11", "2"]
    assert not found.out


TIMED = """
model = "llama-3.1-8b"
gpu = "h100"
[training]
seq_len = 8192
recompute = "full"
[training.parallelism]
gpus = 64
fsdp = "full"
[compute]
tokens = "1T"
price = 2.5
[limits]
days = 365
cost_usd = 1e9
"""


@pytest.mark.parametrize(
    "more", ["", 'training.method = "lora"', 'training.precision = "fp8-mixed"', "training.parallelism.tp = 8"]
)
def test_days_and_money_are_those_of_the_predicted_step(memcalc, sizing, more):
    from memcalc.sizing.checking import read_scenarios
    from memcalc.sizing.subjects import Subjects

    path = sizing(f"{TIMED}\n[scenario.one]\n{more}")
    found = memcalc("check", path, "--format", "json").document["scenarios"][0]["values"]
    run = read_scenarios(path, "", Subjects())[0].scenario.training
    p = run.parallelism
    said = ("train", "llama-3.1-8b", "--gpu", "h100", "--gpus", str(p.gpus), "--fsdp", "full", "--tp", str(p.tp), "--method",
            run.method, "--precision", run.precision, "--recompute", "full", "--seq-len", "8192", "--tokens", "1T",
            "--price", "2.5", "--format", "json")  # fmt: skip
    timed = memcalc(*said).document["time"]
    assert found["days"] == pytest.approx(1e12 / timed["tokens_per_second"] / 86_400)
    assert found["cost_usd"] == pytest.approx(found["days"] * 24 * 64 * 2.5)


def test_an_mfu_that_is_given_goes_before_the_predicted_time(memcalc, sizing):
    given, double = (
        memcalc("check", sizing(f"{TIMED}".replace("price", f"mfu = {mfu}\nprice")), "--format", "json").document
        for mfu in (0.2, 0.4)
    )
    days = [document["scenarios"][0]["values"]["days"] for document in (given, double)]
    assert days[0] == pytest.approx(2 * days[1])


def test_files_of_one_model_share_what_is_worked_out_of_it(memcalc, tmp_path, monkeypatch):
    """Fifty files that name a model read it once; what they ask alike is answered once (the allocator's replay, above all)."""
    from memcalc.estimates.training.replay import extent
    from memcalc.sizing import subjects

    read, replays = [], []
    as_model, replayed = subjects.as_model, extent._replayed
    monkeypatch.setattr(subjects, "as_model", lambda *given: read.append(given) or as_model(*given))
    monkeypatch.setattr(extent, "_replayed", lambda *given: replays.append(given) or replayed(*given))
    paths = []
    for number in range(50):
        paths.append(tmp_path / f"{number}.toml")
        text = 'model = "gpt2"\ngpu = "h100"\n[training]\nseq_len = {}\n[limits]\nverdict = "tight"\n'
        paths[-1].write_text(text.format(512 + 256 * (number % 2)), encoding="utf-8")
    found = memcalc("check", *map(str, paths), "--format", "json")
    assert found.code == 0
    assert len(found.document["scenarios"]) == 50
    assert (len(read), len(replays)) == (1, 2)
