"""How fast a model served one way is: the time law of its operators, and beside it the roofline that no run beats.

Where shares of the peaks are given, the roofline at those shares alone.
"""

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.stored import StoredTensors
from memcalc.errors import Unsupported
from memcalc.estimates.placement import depth_of
from memcalc.estimates.serving.bytes_moved import stored_by_role
from memcalc.estimates.serving.capacity import ServingEstimate
from memcalc.estimates.serving.estimate import estimate
from memcalc.estimates.serving.load import Server, Speculation
from memcalc.estimates.serving.roofline import Roofline, roofline
from memcalc.estimates.serving.server import server
from memcalc.estimates.serving.timed import ServedTime, TimedQuestion, timed
from memcalc.estimates.stored_weights import leading_format, leaves_towers_out
from memcalc.formulas.drafts import METHODS
from memcalc.formulas.speculation import tokens_of_a_pass
from memcalc.formulas.timing.law import TimeLaw
from memcalc.frozen import NamedTuple
from memcalc.specs.hardware import Accelerator
from memcalc.specs.serving import Serving
from memcalc.specs.serving_load import ServingLoad


class Speed(NamedTuple):
    """The time law's answer and the roofline, or the reason why there is none of one of them."""

    roofline: Roofline | None
    reason: str = ""
    timed: ServedTime | None = None
    untimed: str = ""  # why the law says nothing
    asked: TimedQuestion | None = None
    law: TimeLaw | None = None


NO_LOAD = ServingLoad()


def speed(
    architecture: Architecture,
    run: Serving,
    gpu: Accelerator,
    files: StoredTensors | None = None,
    *,
    law: TimeLaw | None = None,
    load: ServingLoad = NO_LOAD,
    slots: float | None = None,
    draft: Architecture | None = None,
    mfu: float | None = None,
    mbu: float | None = None,
    link_efficiency: float | None = None,
) -> Speed:
    """Prefill and decode of a deployment; what is not modelled comes back as the reason.

    `mfu`, `mbu`, `link_efficiency`: shares of peak FLOP/s, memory and link bandwidth that it reaches: the roofline at those
    alone. `slots`: requests that a replica has memory for. Raises InputError for what is no share.
    """
    given = any(share is not None for share in (mfu, mbu, link_efficiency))
    away = run.overridden or (run.gpu_layers is not None and run.gpu_layers < depth_of(architecture))
    try:
        if leaves_towers_out(architecture, run.weights, run.engine_row.kin):
            raise Unsupported("the speed of a GGUF file that leaves the model's image or sound towers out is not modelled")
        if run.draft_tokens and (load.acceptance is None or given):
            raise Unsupported("the speed of speculative decoding depends on how many guesses are right: give --acceptance")
        if away and given:
            raise Unsupported("layers in host memory reach no share of the GPU's peaks")
        alone = run.replace(pp=1, pp_layers=(), tensor_split=(), split_mode="layer", draft_tokens=None, lora_adapters=0)
        whole = estimate(architecture, alone, gpu.architecture, gpu.allocatable, files=files)
        roof = roofline(
            architecture, tp=run.tp, pp=run.pp, ep=run.ep, dp=run.dp, weights_bytes_per_rank=stored_by_role(whole.lines),
            weights_format=leading_format(architecture, run.weights),
            kv_format=run.kv_dtype, prompt=run.prompt, context=run.context, batch=run.batch * run.copies, accelerator=gpu,
            mfu=mfu, mbu=mbu, link_efficiency=link_efficiency,
        )  # fmt: skip
    except Unsupported as error:
        return Speed(None, str(error))
    reason = "layers in host memory move their bytes elsewhere" if away else ""
    if run.draft_tokens:
        reason = "a pass verifies several tokens at once"
    shown = None if reason else roof
    if given or law is None:
        return Speed(shown, reason)
    asked = TimedQuestion(run.prompt, run.context, run.max_new_tokens, run.batch * run.copies, run.dp, load.concurrency, slots)
    try:
        made = _server(architecture, run, gpu, law, whole, load, draft)
        found = timed(made, asked, kind="experts" if _routed(whole) else "dense")
    except Unsupported as error:
        return Speed(shown, reason, None, str(error))
    return Speed(shown, reason, found, "", asked, law)


def _server(
    architecture: Architecture, run: Serving, gpu: Accelerator, law: TimeLaw, whole: ServingEstimate, load: ServingLoad,
    draft: Architecture | None,
) -> Server:  # fmt: skip
    made = server(architecture, run, law, whole, gpu.allocatable, load.host_bandwidth)
    if not run.draft_tokens or load.acceptance is None:
        return made
    drafter = None
    if draft:
        alone = run.replace(draft_tokens=None, lora_adapters=0, pp=1, pp_layers=(), ep=1, redundant_experts=0)
        from memcalc.blocks.draft_heads import with_head

        whole_draft = with_head(draft, architecture)
        held = estimate(whole_draft, alone, gpu.architecture, gpu.allocatable)
        drafter = server(whole_draft, alone, law, held, gpu.allocatable)
    yielded = tokens_of_a_pass(load.acceptance, run.draft_tokens)
    at_once = METHODS[run.draft_method or "model"].at_once
    return made._replace(speculation=Speculation(run.draft_tokens, yielded, drafter, at_once))


def _routed(whole: ServingEstimate) -> bool:
    return any(entry.group == "experts" for entry in whole.lines)
