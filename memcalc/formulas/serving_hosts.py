"""What serving engines' hosts add to a step, and how they schedule prompts: a row an engine, a few measured constants each."""

from memcalc.frozen import NamedTuple


class Host(NamedTuple):
    """An engine's scheduling, and times of its host [s]."""

    name: str = ""
    mixed: bool = True  # prompts are read in the steps that generate tokens too; else in steps of their own, before those
    after: float = 1.0  # of the prompts read while a request is there, the share that falls between its tokens
    graphs: int = 512  # sequences of the largest step that a CUDA graph replays
    follow: int = 2**31  # chunks of a prompt that follow each other through the stages of a pipeline, before all wait
    layer: float = 0.0  # launching a layer's kernels where no graph does
    cast: float = 0.0  # and those that scale activations, where products need it
    step: float = 0.0  # scheduling and sampling, while the device waits
    sequence: float = 0.0  # of that, for each sequence
    grows: bool = False  # a running request gets cache as it needs it, and is put off where there is none; else all at once
    ahead: int = 0  # steps that are launched before the one that runs has ended: a request that comes waits for them too
    request: float = 0.0  # from a request to the scheduler and from the first token to its client
    note: str = ""


EAGER = 300e-6  # a layer's kernels launched one by one: some 20 of 10 to 20 µs each

# Scheduling overlaps the device in current releases of the GPU engines: a step of theirs waits for no host, but for the
# sampling and the bookkeeping of each sequence.
HOSTS: dict[str, Host] = {
    row.name: row
    for row in (
        Host("vllm", layer=100e-6, sequence=5e-6, grows=True, ahead=1, request=10e-3,
             note="v1/core/sched/scheduler.py: running requests first, then prompts as the budget allows"),
        Host("sglang", mixed=False, after=0.8, layer=150e-6, sequence=5e-6, grows=True, ahead=1, request=0.1,
             note="managers/scheduler.py, get_next_batch_to_run: prompts that wait go before the running batch"),
        Host("tensorrt-llm", graphs=2048, layer=250e-6, sequence=5e-6, ahead=1, request=50e-3,
             note="in-flight batching; context steps of the PyTorch backend replay no CUDA graph"),
        Host("llama.cpp", graphs=1, follow=4,
             note="server-context.cpp, update_slots: one batch of tokens and prompts; --batch-size is 4 × --ubatch-size"),
        Host("transformers", mixed=False, graphs=0, layer=700e-6, cast=1e-3,
             note="eager Python: 0.7 ms a layer, Qwen2.5 and Qwen3 at batch 1, 1.5 to 1.9 ms in fp8, whose two Triton kernels "
             "a product are launched from Python (QwenLM speed benchmarks)"),
    )
}  # fmt: skip
PLAIN_HOST = Host(note="no engine: the device alone")


def host_of(engine: str | None, *, eager: bool = False) -> Host:
    """The row of an engine (or of what it is built on); `eager`: without CUDA graphs, as vLLM's --enforce-eager.

    >>> host_of("vllm", eager=True).graphs, host_of(None).layer
    (0, 0.0)
    """
    row = HOSTS.get(engine or "", PLAIN_HOST)
    return row._replace(graphs=0, layer=max(row.layer, EAGER)) if eager else row
