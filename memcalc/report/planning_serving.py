"""The report of `memcalc plan infer`: deployments, or the models that a machine can run, the best first."""

import shlex
from collections.abc import Container
from typing import Any

from memcalc.estimates.planning.serving import GGUF_ENGINES, RankedService, ServicePlan
from memcalc.report.planning import alike
from memcalc.report.report import SCHEMA, Column, Quantity, Report, Table
from memcalc.units import counted

UNSAID = ("engine", "weights", "tp", "pp", "ep", "context", "concurrency", "input_len", "output_len", "gpu_layers", "batch")


def report(plan: ServicePlan, heading: str, assumptions: tuple[str, ...]) -> Report:
    document = {
        "schema": SCHEMA,
        "command": "plan",
        "plan": [_document(row) for row in plan.ranked],
        "plan_of": {"candidates": plan.candidates, "fitting": plan.fitting, "seconds": plan.seconds},
        "assumptions": list(assumptions),
        "warnings": [plan.note] if plan.note else [],
    }
    looked = f"{counted(plan.candidates, 'candidate')} in {plan.seconds:.1f} s{', ' if plan.note else ''}{plan.note}"
    if not plan.ranked:
        most = tuple(f"{count:,} × {why}" for why, count in sorted(plan.why.items(), key=lambda entry: -entry[1])[:3])
        return Report(
            document, (), heading, f"nothing that fits and keeps the goals (of {looked})", "bad", (*most, *assumptions)
        )
    best = plan.ranked[0]
    common = alike([row.served.settings for row in plan.ranked])
    verdict = f"{best.model}, {_words(best, common)}: {best.tokens_per_second:,.0f} tokens/s (best of {looked})"
    notes = (
        f"the first: {best.command}",
        *assumptions,
        "every command and launch line: --format json (plan[].command, launch)",
    )
    return Report(document, (_table(plan),), heading, verdict, "good" if best.fit.verdict == "fits" else "near", notes)


def _document(row: RankedService) -> dict[str, Any]:
    settings = row.served.settings
    return {
        "rank": row.rank,
        "model": row.model,
        "layout": _words(row),
        "gpu_name": row.gpu.name,
        "settings": {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()},
        "command": row.command,
        "launch": launch_line(row),
        "per_gpu": {"peak": row.peak, "needed": row.fit.needed.bytes, "needed_high": row.fit.needed.high},
        "gpu": {"verdict": row.fit.verdict, "limit": row.fit.limit, "headroom": row.fit.headroom},
        "offloaded_layers": row.offloaded,
        "service": {
            "gpus": row.served.gpus, "replicas": row.served.replicas, "concurrency": settings.get("concurrency"),
            "ttft_seconds": row.ttft, "tpot_seconds": row.tpot, "tokens_per_second": row.tokens_per_second,
            "requests_per_second": row.requests_per_second, "usd_per_m_output_tokens": row.usd_per_m_output_tokens,
        },
    }  # fmt: skip


def _words(row: RankedService, unsaid: Container[str] = ()) -> str:
    """A deployment in words, without those of some settings."""
    settings = row.served.settings
    parts = [f"{row.served.replicas} copies"] if row.served.replicas > 1 else []
    parts += [f"{name} {settings[name]}" for name in ("tp", "pp", "ep") if settings.get(name, 1) > 1]
    parts.append(f"weights {settings.get('weights', 'as stored')}")
    if row.offloaded:
        parts.append(f"{row.offloaded} layers in host memory")
    parts += [f"{name.replace('_', ' ')} {value}" for name, value in settings.items()
              if name not in UNSAID and name not in unsaid]  # fmt: skip
    return ", ".join(parts)


def _table(plan: ServicePlan) -> Table:
    models = len({row.model for row in plan.ranked}) > 1
    places = len({(row.gpu.id, row.served.gpus) for row in plan.ranked}) > 1
    priced = any(row.usd_per_m_output_tokens is not None for row in plan.ranked)
    columns = [Column("#", "number"), *([Column("model"), Column("parameters", "count", spare=2)] * models), Column("layout")]
    columns += [Column("on")] * places
    columns += [Column("first token", "quantity"), Column("a token", "quantity"), Column("tokens/s", "number")]
    columns += [Column("USD / M tokens", "quantity", spare=1)] * priced
    columns += [Column("needed", "bytes"), Column("verdict")]
    common = alike([row.served.settings for row in plan.ranked])
    rows = []
    for row in plan.ranked:
        cells: list[Any] = [row.rank, *([row.model, row.parameters] * models), _words(row, common)]
        cells += [f"{row.served.gpus} × {row.gpu.name}"] * places
        cells += [_milliseconds(row.ttft), _milliseconds(row.tpot), round(row.tokens_per_second)]
        usd = row.usd_per_m_output_tokens
        cells += [Quantity(usd, "USD", "—" if usd is None else f"{usd:,.2f}")] * priced
        rows.append((*cells, row.fit.needed.bytes, row.fit.verdict))
    return Table("", tuple(columns), rows)


def _milliseconds(seconds: float | None) -> Quantity:
    if seconds is None:
        return Quantity(None, "s", "—")
    return Quantity(seconds, "s", f"{seconds:,.2f} s" if seconds >= 1 else f"{1000 * seconds:,.3g} ms")


def launch_line(row: RankedService) -> str | None:
    """The server's own command line; None for an engine whose arguments are not written."""
    settings = row.served.settings
    engine, context = settings.get("engine"), settings.get("context")
    if engine in ("vllm", None):
        words = ["vllm", "serve", row.model, *_degrees(settings, "--tensor-parallel-size", "--pipeline-parallel-size")]
        words += ["--max-model-len", str(context)] if context else []
        words += ["--kv-cache-dtype", settings["kv_dtype"]] if settings.get("kv_dtype") else []
        words += ["--enable-expert-parallel"] if settings.get("ep", 1) > 1 else []
        if settings.get("gpu_memory_utilization"):
            words += ["--gpu-memory-utilization", str(settings["gpu_memory_utilization"])]
        words += ["--quantization", "fp8"] if settings.get("weights") == "fp8" else []
        return shlex.join(words) if engine else None
    if engine == "sglang":
        words = [
            "python",
            "-m",
            "sglang.launch_server",
            "--model-path",
            row.model,
            *_degrees(settings, "--tp-size", "--pp-size"),
        ]
        words += ["--context-length", str(context)] if context else []
        return shlex.join(words)
    if engine == "mlx":
        stored = str(settings.get("weights", "bf16")).removeprefix("mlx-")
        return shlex.join(["mlx_lm.server", "--model", f"{row.model}-{stored}"])
    if engine in GGUF_ENGINES and engine == "llama.cpp":
        words = ["llama-server", "-m", f"{row.model}-{settings.get('weights', 'Q8_0')}.gguf"]
        words += ["-c", str(context)] if context else []
        return shlex.join([*words, "-ngl", str(settings.get("gpu_layers", 99))])
    return None


def _degrees(settings: dict[str, Any], tensor: str, pipeline: str) -> list[str]:
    out = [tensor, str(settings["tp"])] if settings.get("tp", 1) > 1 else []
    return out + ([pipeline, str(settings["pp"])] if settings.get("pp", 1) > 1 else [])
