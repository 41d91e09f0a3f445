"""`memcalc import FILE…`."""

import click

from memcalc.cli.options import GroupedCommand, gpu_option, output_options, show


@click.command("import", cls=GroupedCommand, no_args_is_help=True)
@click.argument("files", nargs=-1, required=True)
@gpu_option
@output_options("jobs")
def import_command(files: tuple[str, ...], gpu: str | None, format_: str, get: tuple[str, ...], output: str | None) -> None:
    """Launch files of other programs as a sizing file, with a comment for every setting that names file and line.

    FILE is what a run is started with: a DeepSpeed JSON, accelerate's YAML, TrainingArguments, TRL, axolotl, LLaMA-Factory,
    torchtitan, torchtune, Megatron-LM, Megatron-Bridge, verl, OpenRLHF, ms-swift, slime, nanotron, LitGPT, NeMo RL; vLLM,
    SGLang, llama-server, trtllm-serve, ollama; docker-compose, Kubernetes, Helm values, shell and sbatch scripts; or a command
    line in quotes. Several files of one run are joined; FILE#NAME is one of several servers. Nothing is executed. YAML needs
    memcalc[yaml].

    \b
    memcalc import examples/launch/train.sh --gpu h100
    memcalc import 'vllm serve Qwen/Qwen3-8B --max-model-len 16k' --gpu l40s
    """
    from memcalc.report.output import write
    from memcalc.sizing.import_report import imported

    report = imported(files, gpu)
    if format_ == "table" and not get:  # what is printed is a file for another command
        write(report.document["sizing"].rstrip("\n"), output, people=False)
        return
    show(report._replace(warnings=()), format_, get, output)
