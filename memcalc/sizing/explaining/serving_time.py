"""Keys of speed.* that the time law answers: where each second goes, and what a load follows from."""

from memcalc.estimates.explanation import Explanation, follows, given, summed
from memcalc.estimates.serving.timed import ServedTime, TimedQuestion
from memcalc.formulas.formula import ASSUMED, ESTIMATE
from memcalc.sizing.explaining.keys import Key
from memcalc.sizing.serving import SizedServing

PARTS = {
    "products": "law of matrix products, over the shapes of a rank's weights",
    "attention": "law of attention, over a rank's heads",
    "experts": "law of grouped products, over a rank's experts",
    "recurrence": "states read and written, and the products of a scan",
    "elementwise": "bytes of norms, activations and rotations, and the start of each kernel",
    "messages": "law of collectives, over the hidden states that ranks send",
    "host": "what the engine's host adds to a step (memcalc/formulas/serving_hosts.py)",
}
SAID = {
    "prompt": ("tokens", "--input-len, or --context less --max-new-tokens"),
    "context": ("tokens", "--context: decode at the full context"),
    "batch": ("sequences", "--batch, or --concurrency over its groups; times --samples and --beams"),
}
LOAD = {
    "concurrency": ("requests", "--concurrency; without it, the batch"),
    "output_tokens_per_second": ("1/s", "requests a second, times the tokens of an answer"),
    "decoding_sequences": ("sequences", "the fixed point: in flight, less those whose prompt is read or waits"),
    "steps_reading_prompts": ("", "the fixed point: passes that read prompts, for each step"),
    "prompt_tokens_of_such_a_step": ("tokens", "what the engine's budget of tokens leaves beside those generated"),
}
RANGED = {"ttft_seconds": "ttft", "tpot_seconds": "tpot", "requests_per_second": "requests_per_second"}
NAMES = (
    *SAID, "prefill_seconds", "prefill_tokens_per_second", "decode_seconds", "decode_tokens_per_second",
    "decode_tokens_per_second_per_sequence",
)  # fmt: skip
SPECULATED = "passes that verify guesses, and those that made them"


def answers(a: SizedServing, key: Key) -> bool:
    """Whether the law says what stands under this key."""
    return bool(a.speed and a.speed.timed) and key.steps[1] in NAMES


def time_key(a: SizedServing, key: Key) -> Explanation:
    """speed.law.*, speed.load.*, what requests see, and the passes."""
    assert a.speed
    assert a.speed.timed
    assert a.speed.asked
    found, asked, steps = a.speed.timed, a.speed.asked, key.steps[1:]
    if steps[0] == "law":
        return given(key.path, key.value, PARTS[steps[-1]], "s", ESTIMATE)
    if steps[0] == "load":
        unit, source = LOAD[steps[-1]]
        return given(key.path, key.value, source, unit, ESTIMATE)
    if steps[0] in SAID:
        unit, source = SAID[steps[0]]
        return given(key.path, key.value, source, unit)
    base = steps[0].removesuffix("_low").removesuffix("_high")
    if base in RANGED:
        return _seen(key, base, found, asked)
    return _pass(key, found, asked)


def _seen(key: Key, base: str, found: ServedTime, asked: TimedQuestion) -> Explanation:
    unit = "1/s" if base == "requests_per_second" else "s"
    name = RANGED[base]
    if key.last != base:
        row, end = found.ranges[name], key.last.rpartition("_")[2]
        share = given("share", getattr(row, end), f"of {row.rows} measured rows (memcalc validate --kind serving-speed)",
                      "share", ESTIMATE)  # fmt: skip
        return follows(
            key.path, key.value, unit, "point * (1 + share)", given("point", getattr(found, name), base, unit), share
        )
    how = (
        f"the fixed point of {asked.concurrency:,} requests in flight" if asked.concurrency else "passes of an idle deployment"
    )
    return given(key.path, key.value, how, unit, ESTIMATE)


def _pass(key: Key, found: ServedTime, asked: TimedQuestion) -> Explanation:
    match key.last:
        case "decode_seconds":
            parts = {**found.decode_parts._asdict(), "host": found.waiting}
            return _of_parts(key, parts, found.decode, SPECULATED if found.speculative else "")
        case "prefill_seconds" if found.prefill is not None and found.prefill_parts:
            return _of_parts(key, found.prefill_parts._asdict(), found.prefill, "chunks of the prompt, stages and the host")
    rate = "tokens of all groups over the seconds of their passes"
    return given(key.path, key.value, rate, "1/s", ESTIMATE)


def _of_parts(key: Key, parts: dict[str, float], whole: float, rest: str) -> Explanation:
    """The device's parts of one pass, and what else there is: the host that launches them, further passes."""
    nodes = [given(name, value, PARTS[name], "s", ESTIMATE) for name, value in parts.items() if value]
    more = whole - sum(parts.values())
    if abs(more) > 1e-9:
        nodes.append(given("rest", more, rest or "launching kernels from the host, or rounds of a pipeline", "s", ASSUMED))
    return summed(key.path, nodes, "s")
