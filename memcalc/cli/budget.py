"""`memcalc budget [MODEL]`."""

from typing import Any

import click

from memcalc.cli.options import COUNT, FLOPS, NUMBER, SHARE, output_options, preset_option, show
from memcalc.errors import InputError


class Days(click.ParamType[float]):
    """Days, or any duration with its unit: 30, 30d, 36h, '2 weeks'."""

    name = "days"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return value
        from memcalc.units import parse_duration

        try:
            return NUMBER.convert(value, param, ctx)
        except click.BadParameter:
            try:
                return parse_duration(value) / 86_400
            except InputError as error:
                self.fail(str(error), param, ctx)


class Grid(click.ParamType[float]):
    """kg CO2e a kWh, or grams with a g: 0.385, 385g."""

    name = "kg/kWh"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, str) and value.endswith("g") and not value.endswith("kg"):
            return NUMBER.convert(value[:-1], param, ctx) / 1000
        kilograms = NUMBER.convert(value.removesuffix("kg") if isinstance(value, str) else value, param, ctx)
        if kilograms > 3:
            self.fail(f"{value!r:.40} kg CO2e a kWh is more than any grid emits; write 0.385 or 385g", param, ctx)
        return kilograms


DAYS, GRID = Days(), Grid()


@click.command("budget", no_args_is_help=True)
@click.argument("model", required=False)
@click.option("--params", type=COUNT, help="Parameters, without a MODEL.")
@click.option("--tokens", type=COUNT, help="Training tokens.")
@click.option("--flops", type=FLOPS, help="Model FLOPs: 3.14e23, 314 ZFLOP.")
@click.option("--pf-days", type=NUMBER, help="The same in petaFLOP/s-days of 8.64e19 FLOP.")
@click.option("--gpu", metavar="NAME", help="Accelerator, as in `memcalc gpus`.")
@click.option("--gpus", type=COUNT, help="Number of accelerators.")
@click.option("--days", type=DAYS, help="Wall clock: 30, 36h, '2 weeks'.")
@click.option("--gpu-hours", type=NUMBER, help="Hours of all accelerators together.")
@click.option("--mfu", type=SHARE, help="Model FLOPs utilisation of the dense peak.  [default: 0.4]")
@click.option("--hfu", type=SHARE, help="Hardware FLOPs utilisation, recomputation included.")
@click.option("--cost", type=NUMBER, help="Ceiling in USD: 5.5M.")
@click.option("--price", type=NUMBER, help="USD an accelerator-hour.  [default: a dated range]")
@click.option("--watts", type=NUMBER, help="Power of one accelerator.  [default: its thermal design power]")
@click.option("--power-share", type=SHARE, help="Share of the thermal design power that it draws.  [default: 1]")
@click.option("--pue", type=NUMBER, help="Power usage effectiveness of the data centre.  [default: 1.2]")
@click.option("--grid-intensity", type=GRID, help="kg CO2e a kWh, or 385g.  [default: 0.475]")
@click.option("--recompute", metavar="none|selective|full", help="Activation recomputation: HFU above MFU.")
@click.option("--seq-len", type=COUNT, help="Tokens a sequence, for attention.  [default: 2048, or the model's context]")
@click.option("--flops-by", metavar="LEVEL", help="6ND, architecture, architecture-causal, palm, palm-causal, hoffmann.")
@click.option("--precision", metavar="FORMAT", help="Whose dense peak counts: bf16, fp8, …  [default: bf16, or fp16]")
@click.option("--like", metavar="RUN", help="Start from a published run (`memcalc runs`); options replace its own.")
@preset_option
@output_options
def budget_command(
    model: str | None, gpu: str | None, like: str | None, presets: tuple[str, ...], format_: str, get: str | None,
    output: str | None, **settings: Any,
) -> None:  # fmt: skip
    """FLOPs, petaFLOP/s-days, GPU-hours, days, cost, energy: whatever is not given is solved.

    MODEL is a preset (`memcalc models`), a config.json, safetensors or GGUF file or its folder, or a count such as 7B.

    \b
    memcalc budget llama-3.1-8b --tokens 15T --gpu h100 --gpus 1024
    memcalc budget --params 175B --tokens 300B --gpu v100 --gpus 10k --mfu 0.2
    memcalc budget --params 7B --gpu a100 --cost 200k
    memcalc budget --like gpt-3 --gpu h100 --gpus 1024
    """
    from memcalc.sizing.budget import size_budget

    show(size_budget(model, gpu, like=like, presets=presets, **settings).report(), format_, get, output)
