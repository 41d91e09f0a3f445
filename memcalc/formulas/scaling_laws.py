"""The scaling laws there are: a table. A law is a form with its constants, where it holds, and who published it.

Losses are nats per token of each law's own data and tokenizer: comparable under one law, never between two.
"""

from dataclasses import replace

from memcalc.errors import InputError, Unsupported, nearest
from memcalc.formulas.granular_experts import GranularExperts
from memcalc.formulas.law_forms import LawForm, Parametric, Point, PowerLaw, SeparateFits, Tabulated
from memcalc.formulas.repeated_data import Repeated
from memcalc.frozen import dataclass
from memcalc.units import format_count

DEFAULT = "besiroglu"

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Law:
    """One row. `tested` says on which parameters, tokens and FLOP the law was fitted: beyond it extrapolates."""

    name: str
    title: str
    form: LawForm
    source: str
    place: str  # table or equation in the source
    tested: dict[str, Bounds]  # "parameters", "tokens", "flops" → lowest and highest
    ranges: dict[str, Bounds] | None = None  # published confidence ranges: constants, or the exponent of parameters
    confidence: str = ""  # what those ranges are
    counts: str = "all parameters"
    note: str = ""

    @property
    def has_surface(self) -> bool:
        """Whether it predicts the loss of any parameters and tokens, on a surface whose optimum is its own."""
        return isinstance(self.form, (Parametric, Repeated))

    def outside(self, point: Point) -> list[str]:
        """In words, each quantity of a point that lies outside what the law was fitted on."""
        found = []
        for quantity, (low, high) in self.tested.items():
            value = getattr(point, quantity)
            if not low <= round(value) <= high:
                unit = "FLOP" if quantity == "flops" else quantity
                range_ = f"up to {format_count(high)}" if not low else f"{format_count(low)} to {format_count(high)}"
                found.append(f"{format_count(value)} {unit} (fitted on {range_})")
        return found


def law(name: str) -> Law:
    """The row of that name.

    >>> law("besiroglu").title
    'Besiroglu et al. 2024'
    """
    if name in UNPUBLISHED:
        raise Unsupported(f"{name}: {UNPUBLISHED[name]}; no constants are known, so there is nothing to compute with")
    if name not in LAWS:
        raise InputError(f"no scaling law is named {name!r:.40}{nearest(name, LAWS)} (laws: {', '.join(LAWS)})")
    return LAWS[name]


def data_limited(found: Law, unique: float) -> Law:
    """The same law with a stock of unique tokens, if its form knows what repetition costs."""
    return replace(found, form=replace(found.form, unique=unique)) if isinstance(found.form, Repeated) else found


CHINCHILLA_RUNS = {"parameters": (70e6, 16e9), "tokens": (5e9, 500e9)}  # Hoffmann et al. 2022, abstract

_ROWS = (
    Law(
        "besiroglu",
        "Besiroglu et al. 2024",
        Parametric(e=1.8172, a=482.01, b=2085.43, alpha=0.3478, beta=0.3658),
        "besiroglu-2024",
        "equation 4 and table 1: approach 3 fitted again to Hoffmann's own runs",
        CHINCHILLA_RUNS,
        {
            "a": (285.214, 743.626),
            "b": (1042.357, 5810.344),
            "e": (1.769, 1.871),
            "alpha": (0.317, 0.373),
            "beta": (0.331, 0.415),
        },
        "95 %, bootstrap",
        note="the default: agrees with Hoffmann's approaches 1 and 2, and with how Chinchilla was trained",
    ),
    Law(
        "hoffmann-1",
        "Hoffmann et al. 2022, approach 1: lowest points of training curves",
        Tabulated(
            (
                (400e6, 1.92e19), (1e9, 1.21e20), (10e9, 1.23e22), (67e9, 5.76e23), (175e9, 3.85e24), (280e9, 9.90e24),
                (520e9, 3.43e25), (1e12, 1.27e26), (10e12, 1.30e28),
            )
        ),
        "hoffmann-2022",
        "table 3; constants were not printed, so the table is interpolated",
        CHINCHILLA_RUNS,
        {"exponent of parameters": (0.488, 0.502)},
        "10th to 90th percentile",
        note="the row of 67B prints 1.5T tokens, 6ND of which is 5 % above its own 5.76e23 FLOP",
    ),
    Law(
        "hoffmann-2",
        "Hoffmann et al. 2022, approach 2: isoFLOP profiles",
        Tabulated(
            (
                (400e6, 1.84e19), (1e9, 1.20e20), (10e9, 1.32e22), (67e9, 6.88e23), (175e9, 4.54e24), (280e9, 1.18e25),
                (520e9, 4.19e25), (1e12, 1.59e26), (10e12, 1.75e28),
            )
        ),
        "hoffmann-2022",
        "table A3; constants were not printed, so the table is interpolated",
        CHINCHILLA_RUNS,
        {"exponent of parameters": (0.462, 0.534)},
        "10th to 90th percentile",
    ),
    Law(
        "hoffmann-3",
        "Hoffmann et al. 2022, approach 3: parametric, as printed",
        Parametric(e=1.69, a=406.4, b=410.7, alpha=0.34, beta=0.28),
        "hoffmann-2022",
        "equations 2, 4 and 10",
        CHINCHILLA_RUNS,
        {"exponent of parameters": (0.454, 0.455)},
        "10th to 90th percentile, implausibly narrow",
        note="contested: the printed constants are rounded and do not give the paper's own table A3 "
        "(whose row of 175B prints 1.26e24 FLOP for 1.26e25); 90 tokens per parameter at Chinchilla's budget",
    ),
    Law(
        "hoffmann-3-unrounded",
        "Hoffmann et al. 2022, approach 3: parametric, unrounded",
        Parametric(e=1.6933736809989528, a=406.4010175194737, b=410.7228269450398, alpha=0.33917084, beta=0.2849083),
        "besiroglu-2024",
        "constants from the TeX source of Hoffmann et al.; data_analysis.ipynb, true_params",
        CHINCHILLA_RUNS,
        note="contested: nearer to table A3 than the printed constants, still off (1.43e25 for 1.26e25 FLOP at 175B)",
    ),
    Law(
        "kaplan",
        "Kaplan et al. 2020",
        SeparateFits(
            parameters=(1.3e9, 0.73),
            tokens=(2e10, 0.27),
            compute=(3.1e8, 0.050),
            joint=(6.4e13, 1.8e13, 0.076, 0.103),
        ),
        "kaplan-2020",
        "section 6.1, tables 2 and 6",
        {"parameters": (768, 1.5e9), "tokens": (22e6, 23e9)},
        counts="parameters without embeddings",
        note="parameters and tokens are separate fits, so 6ND is not the budget (1.8 times it at one petaFLOP/s-day); "
        "superseded: its learning-rate schedule did not follow the number of tokens",
    ),
    Law(
        "deepseek",
        "DeepSeek LLM 2024",
        PowerLaw(5.8316, 0.4757, "tokens"),
        "deepseek-llm-2024",
        "section 3.2, equation 4: M = 0.1715 C^0.5243 FLOP per token, D = 5.8316 C^0.4757",
        {"flops": (1e17, 3e20)},
        counts="M / 6, the FLOP per token without embeddings but with attention",
        note="depends on the data: better data moves the optimum to larger models",
    ),
    Law(
        "llama3",
        "Llama 3 2024",
        PowerLaw(0.299, 0.537, "tokens"),
        "llama3-2024",
        "section 3.2.1, legend of figure 3",
        {"flops": (6e18, 1e22), "parameters": (40e6, 16e9)},
        note="the text rounds to 0.29 and 0.53, which misses its own 402B on 16.55T tokens at 3.8e25 by a third",
    ),
    Law(
        "krajewski",
        "Krajewski et al. 2024, mixture of experts",
        GranularExperts(c=0.47, g=2.1, gamma=0.58, a=18.1, b=30.8, alpha=0.115, beta=0.147),
        "krajewski-2024",
        "equations 9 and 10, table 1; 64-fold expansion, granularity chosen",
        {"parameters": (129e6, 3.7e9), "tokens": (16e9, 130e9)},
        counts="all parameters without embeddings, 1 in 43 active",
        note="tokens per parameter counts active parameters",
    ),
    Law(
        "muennighoff",
        "Muennighoff et al. 2023, data-constrained",
        Repeated(Parametric(e=1.8691436784054858, a=520.8249516599187, b=1487.716093782861, alpha=0.3526596, beta=0.3526596)),
        "muennighoff-2023",
        "equations 5 to 7, appendix A",
        {"parameters": (0, 9e9), "tokens": (0, 900e9)},
        note="knows repeated data: give the unique tokens there are",
    ),
    Law(
        "rule-of-thumb",
        "20 tokens per parameter",
        PowerLaw(120**-0.5, 0.5, "parameters"),
        "hoffmann-2022",
        "table 3, rounded: D = 20 N, so C = 120 N²",
        {},
        note="a rule of thumb, not a fit",
    ),
)  # fmt: skip

LAWS: dict[str, Law] = {row.name: row for row in _ROWS}

# Laws people ask for by name whose constants no source at hand gives.
UNPUBLISHED = {
    "clark": "Clark et al. 2022 (arXiv 2202.01169), routed models",
    "ludziejewski": "Ludziejewski et al. 2025 (arXiv 2502.05172), joint mixture-of-experts laws",
}
