"""Bytes of one rank's weights as they are stored: values, and the scales, zero points and orders beside them."""

from collections.abc import Callable, Iterator
from functools import partial

from memcalc.blocks.architecture import Architecture, Quantization
from memcalc.blocks.linears import is_linear, leaf
from memcalc.caches import cached
from memcalc.dtypes import NumberFormat, number_format
from memcalc.errors import InputError, Unsupported
from memcalc.estimates.compute.matrices import Matrices, matrices
from memcalc.estimates.layer_spans import layer_spans, spans_of
from memcalc.estimates.lines import Line, line
from memcalc.estimates.placement import Held, Stage, main_parts
from memcalc.formulas import stored_weights as formulas
from memcalc.formulas.formula import ceil_div
from memcalc.specs.quantization import CHECKPOINT, Mixture, Scheme, stored_as

TILE = 128  # rows and columns that share a scale of fp8-block128


@cached(4096)
def stored_weights(
    stage: Stage, architecture: Architecture, weights: str, *, engine: str = "", host_embedding: bool = False
) -> tuple[Line, ...]:
    """One rank's weights, a line for each role and format and one for what stands beside its values.

    `weights` is a word of `--weights` (memcalc.specs.quantization), `engine` who loads them. `host_embedding`: llama.cpp's
    own placement, where the token table of a GGUF file stays in host memory and a tied one is copied to the GPU for the
    head; without it the lines are the file. Raises Unsupported where a checkpoint's quantisation is not known.
    """
    return _counted(Tally(), stage, architecture, weights, engine, host_embedding).lines()


def tensors_by_line(
    stage: Stage, architecture: Architecture, weights: str, *, engine: str = "", host_embedding: bool = False
) -> dict[tuple[str, str], list[tuple[Held, int]]]:
    """What each of these lines, by its place and name, counts of which weights."""
    tally = ItemisedTally()
    _counted(tally, stage, architecture, weights, engine, host_embedding)
    return tally.items


def _counted(
    tally: "Tally", stage: Stage, architecture: Architecture, weights: str, engine: str, host_embedding: bool
) -> "Tally":
    """All weights of a stage."""
    if weights.strip().lower() == CHECKPOINT:
        _from_checkpoint(tally, stage, architecture, engine)
    elif isinstance(stored := stored_as(weights, engine), Mixture):
        _from_mixture(tally, stage, architecture, stored, host_embedding)
    else:
        rest = stored.stored if stored.plain else _rest(architecture)
        experts_only = stored.reach == "experts" and _has_experts(architecture)
        for held in stage.held:
            if stored.head and (head := _as_head(held, architecture, stage.last)):
                tally.scheme(head, head.copies, _scheme(engine, stored.head))
                if head is held:
                    continue
            if stored.plain:
                tally.plain(held, held.elements, rest, own=True)
            elif _reached(held, stored, architecture, experts_only):
                tally.scheme(held, held.copies, stored)
            elif (
                stored.attention
                and leaf(held.path) not in GATES
                and _reached(held, other := _scheme(engine, stored.attention), architecture, False)
            ):
                tally.scheme(held, held.copies, other)
            else:
                tally.plain(held, held.elements, _beside(held, stored, rest))
    return tally


def weight_assumptions(architecture: Architecture, weights: str, *, engine: str = "") -> Iterator[str]:
    """What is taken for granted about the weights, in sentences for a report."""
    quantization, rest = architecture.quantization, _rest(architecture).name
    if weights.strip().lower() == CHECKPOINT:
        method = quantization.method
        yield f"weights as the checkpoint stores them: {method or f'not quantised, {_rest(architecture, wide=True).name}'}"
        return
    stored = stored_as(weights, engine)
    if isinstance(stored, Mixture):
        if stored.published:
            least, most = min(stored.published, key=_bits), max(stored.published, key=_bits)
            spread = "" if least == most else f" ({least[1]:g} of {least[0]} to {most[1]:g} of {most[0]})"
            yield (
                f"{stored.name} is taken for {stored.bits:g} bits per parameter, the median of {len(stored.published)} "
                f"published files{spread}: the file itself says its own"
            )
        else:
            yield f"tensor types of {stored.name} by llama.cpp's own rules; vectors, norms and routers stay fp32"
        if len(_main_names(architecture)) < len(architecture.parts):
            yield "vision and audio towers are a file of their own (mmproj), not counted here"
    elif stored.reach == "modules":
        yield f"linear layers, token tables and the head are quantised where their rows are whole groups; the rest stays {rest}"
    elif stored.attention:
        only = " and ".join(PARTS[stored.reach])
        yield (
            f"{only} are stored in {stored.format}, other linears of the layers in {stored.attention}, the head in "
            f"{stored.head}; embeddings, norms, routers and the gates of recurrent layers stay {rest}"
        )
    elif stored.head:
        yield f"bits per weight are the layers' average; the head has {stored.head}, embeddings, norms and routers stay {rest}"
    elif not stored.plain:
        only = "only the routed experts are quantised; " if stored.reach == "experts" and _has_experts(architecture) else ""
        only = f"only {' and '.join(PARTS[stored.reach])} are quantised; " if stored.reach in PARTS else only
        yield f"{only}embeddings, norms, routers and the head stay {rest}"


def _bits(published: tuple[str, float]) -> float:
    return published[1]


def leaves_towers_out(architecture: Architecture, weights: str, engine: str = "") -> bool:
    """Whether a GGUF file holds the language model alone, without the towers that the model has beside it."""
    if weights.strip().lower() == CHECKPOINT or len(_main_names(architecture)) == len(architecture.parts):
        return False
    return isinstance(stored_as(weights, engine), Mixture)


def leading_format(architecture: Architecture, weights: str) -> str:
    """The number format that most quantised matrices are in; that of the rest where nothing is quantised."""
    if weights.strip().lower() != CHECKPOINT:
        return stored_as(weights).format
    words = sorted(_words(architecture.quantization))
    return stored_as(words[0]).format if words else _rest(architecture, wide=True).name


def _rest(architecture: Architecture, *, wide: bool = False) -> NumberFormat:
    """What is not quantised is kept in the checkpoint's 16-bit float (`wide`: or a wider one), bf16 where it names none."""
    try:
        row = number_format(architecture.dtype)
    except InputError:
        return number_format("bf16")
    return row if row.kind == "float" and (row.bits == 16 or (wide and row.bits > 16)) else number_format("bf16")


class Tally:
    """Sums of equal formulas by line, in the order in which they first come."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str, str, Callable[..., int], str, tuple[tuple[str, float], ...]], int] = {}

    def add(
        self, held: Held, place: str, role: str, remark: str, formula: Callable[..., int], counted: str, number: int,
        **inputs: float,
    ) -> None:  # fmt: skip
        """So many more of what the formula counts, of weights of a role; the remark says in which form."""
        key = (place, role, remark, formula, counted, tuple(inputs.items()))
        self._sums[key] = self._sums.get(key, 0) + number

    def lines(self) -> tuple[Line, ...]:
        return tuple(
            line(
                "weights",
                _name(role, remark),
                "always",
                formula,
                place,
                **{counted: number},
                **dict(inputs),
            ).within(role)
            for (place, role, remark, formula, counted, inputs), number in self._sums.items()
        )

    def plain(self, held: Held, elements: int, row: NumberFormat, *, own: bool = False) -> None:
        """Tensors kept whole in a plain format; `own`: it is the one asked for, so the line is just the role's."""
        remark = "" if own else row.name
        if row.block_size == 1:
            self.add(held, "gpu", held.role, remark, formulas.plain_bytes, "elements", elements, bytes_each=row.block_bytes)
            return
        self.add(
            held, "gpu", held.role, remark, formulas.packed_bytes, "elements", elements,
            block=row.block_size, bytes_per_block=row.block_bytes,
        )  # fmt: skip

    def scheme(self, held: Held, copies: int, scheme: Scheme) -> None:
        """`copies` of a tensor's matrices under a scheme."""
        row, role, name = scheme.stored, held.role, scheme.name
        each, outputs, inputs = _padded(held, scheme)
        count = each * copies
        values = outputs * (_rounded(inputs, scheme.group) if scheme.group else inputs)
        formula = formulas.grouped_bytes if scheme.group else formulas.blockwise_bytes
        self.add(
            held,
            "gpu",
            role,
            name,
            formula,
            "blocks",
            ceil_div(values, row.block_size) * count,
            bytes_per_block=row.block_bytes,
        )
        if scheme.scales:
            scales = {"tensor": 1, "channel": outputs, "tile": ceil_div(outputs, TILE) * ceil_div(inputs, TILE),
                      "strip": outputs * ceil_div(inputs, TILE),
                      "ends": outputs + inputs * (2 if leaf(held.path) == "gate_up" else 1)}  # fmt: skip
            number = scales[scheme.scales] * count
            self.add(
                held, "gpu", role, f"{name}, scales", formulas.scale_bytes, "scales", number, bytes_each=scheme.scale_bytes
            )
        if scheme.swizzled and held.routed:
            number = _rounded(outputs, scheme.swizzled) * ceil_div(inputs, scheme.group) * count
            self.add(held, "gpu", role, f"{name}, swizzled scales", formulas.scale_bytes, "scales", number, bytes_each=1)
        if scheme.ordered:
            self.add(
                held, "gpu", role, f"{name}, order", formulas.channel_order_bytes, "channels", inputs * count, bytes_each=4
            )


def _name(role: str, remark: str) -> str:
    return f"{role}, {remark}" if remark else role


class ItemisedTally(Tally):
    """The same, and which weights count how much in which line."""

    def __init__(self) -> None:
        super().__init__()
        self.items: dict[tuple[str, str], list[tuple[Held, int]]] = {}

    def add(
        self, held: Held, place: str, role: str, remark: str, formula: Callable[..., int], counted: str, number: int,
        **inputs: float,
    ) -> None:  # fmt: skip
        super().add(held, place, role, remark, formula, counted, number, **inputs)
        self.items.setdefault((place, _name(role, remark)), []).append((held, number))


def _padded(held: Held, scheme: Scheme) -> Matrices:
    """The matrices as the scheme's kernels want them."""
    found = matrices(held)
    if not held.routed or scheme.hidden_multiple == scheme.width_multiple == 1:
        return found
    hidden, width = scheme.hidden_multiple, scheme.width_multiple
    if leaf(held.path) == "down":
        return Matrices(found.number, _rounded(found.outputs, hidden), _rounded(found.inputs, width))
    halves = 2 if leaf(held.path) == "gate_up" else 1
    return Matrices(found.number, halves * _rounded(found.outputs // halves, width), _rounded(found.inputs, hidden))


def _rounded(size: int, multiple: int) -> int:
    return ceil_div(size, multiple) * multiple


GATES = ("a", "b", "ba")  # of recurrent layers: linear_attn.in_proj_a and in_proj_b, which kernels take in 16 bits alone
PARTS = {"mlp": ("mlp", "experts"), "routed": ("experts",)}  # roles that a scheme is bound to


def _reached(held: Held, scheme: Scheme, architecture: Architecture, experts_only: bool) -> bool:
    """Whether a scheme quantises these tensors."""
    if scheme.reach == "everywhere" and held.role == "projector":
        return len(held.shape) == 2
    if scheme.reach == "modules":
        return _is_module(held, scheme.group) and held.path.partition("/")[0] in _main_names(architecture)
    if not (held.layered and is_linear(held.path, held.role, held.shape)) or (experts_only and not held.routed):
        return False
    if held.role not in PARTS.get(scheme.reach, (held.role,)):
        return False
    return scheme.reach == "everywhere" or held.path.partition("/")[0] in _main_names(architecture)


def _is_module(held: Held, group: int) -> bool:
    """Whether a tensor is the matrix of a linear layer, of the head, or a token table, and its rows are whole groups."""
    linear = held.layered and is_linear(held.path, held.role, held.shape)
    table = held.role in ("embedding", "head") and len(held.shape) == 2
    return (linear or table) and matrices(held).inputs % group == 0


def _as_head(held: Held, architecture: Architecture, last: bool) -> Held | None:
    """The head's matrix: itself, or what stands for it where the table is tied."""
    if held.role == "head" and len(held.shape) == 2:
        return held
    if not architecture.tied or not last or len(held.shape) != 2:
        return None
    return held._replace(role="head") if held.tied_copy or (held.role == "embedding" and not held.layered) else None


@cached(256)
def _main_names(architecture: Architecture) -> frozenset[str]:
    return frozenset(part.name for part in main_parts(architecture))


@cached(256)
def _has_experts(architecture: Architecture) -> bool:
    return any(counted.weight.routed for counted in architecture.weights)


def _from_mixture(tally: Tally, stage: Stage, architecture: Architecture, mixture: Mixture, host_embedding: bool) -> None:
    """A GGUF file: of a multimodal model the language model only, since the towers are a file of their own."""
    from memcalc.estimates.gguf_mixtures import typed

    spans = layer_spans(architecture, stage)
    kept = _main_names(architecture)
    for held in stage.held:
        if not (held.tied_copy or held.path.partition("/")[0] in kept):
            continue
        table = host_embedding and held.role == "embedding" and not held.tied_copy
        if mixture.bits:
            _average(tally, held, mixture, table, copied=table and architecture.tied and stage.last)
            continue
        for found in typed(held, spans_of(held, spans), architecture, mixture):
            row = number_format(found.format)
            blocks = ceil_div(found.inputs, row.block_size) * found.rows * found.copies
            places = [("host" if table else "gpu", held.role, "")]
            if table and architecture.tied and stage.last:
                places.append(("gpu", "head", "the tied table's copy"))
            for place, role, remark in places:
                stored = f"{remark}, {found.format}" if remark else found.format
                tally.add(held, place, role, stored, formulas.ggml_bytes, "blocks", blocks, bytes_per_block=row.block_bytes)


def _average(tally: Tally, held: Held, mixture: Mixture, table: bool, *, copied: bool) -> None:
    """A tensor of a mixture of which bits per parameter are all that is known."""
    places = [("host" if table else "gpu", held.role, mixture.format)]
    if copied:
        places.append(("gpu", "head", f"the tied table's copy, {mixture.format}"))
    for place, role, remark in places:
        tally.add(held, place, role, remark, formulas.average_bytes, "elements", held.elements, bits=mixture.bits)


def _from_checkpoint(tally: Tally, stage: Stage, architecture: Architecture, engine: str) -> None:
    """As the model's own quantization_config says, layer by layer where it does."""
    quantization = architecture.quantization
    if quantization.problem:
        raise Unsupported(quantization.problem)
    rest = _rest(architecture, wide=not quantization.method)
    spans, words = layer_spans(architecture, stage), dict(quantization.stored)
    swizzled = next((s for s in map(partial(_scheme, engine), _words(quantization)) if s.swizzled), None)
    for held in stage.held:
        whole = spans_of(held, spans)
        each = held.copies // sum(span.layers for span in whole)
        left = held.copies
        for first, stop, word in words.get((held.path, held.routed), ()):
            layers = sum(max(0, min(stop, span.stop) - max(first, span.first)) for span in whole)
            if layers:
                tally.scheme(held, layers * each, _scheme(engine, word))
                left -= layers * each
        head = _as_head(held, architecture, stage.last) if quantization.tied_head else None
        if head and head is not held:
            tally.scheme(head, head.copies, _scheme(engine, quantization.tied_head))
        if left:
            kept = _beside(held, swizzled, rest) if swizzled else rest
            tally.plain(held, held.elements // held.copies * left, kept, own=not quantization.method)


def _words(quantization: Quantization) -> frozenset[str]:
    return frozenset(word for _, runs in quantization.stored for _, _, word in runs)


def _scheme(engine: str, word: str) -> Scheme:
    found = stored_as(word, engine)
    assert isinstance(found, Scheme), f"a checkpoint is no {found.name} file"
    return found


def _beside(held: Held, scheme: Scheme, rest: NumberFormat) -> NumberFormat:
    """The format of what a scheme leaves alone: kernels that swizzle keep the experts' biases in fp32."""
    return number_format("fp32") if scheme.swizzled and held.routed else rest
