"""Quantities: exact reading, refusals in one sentence, and printing."""

from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcalc.errors import InputError
from memcalc.units import (
    BYTE_UNITS,
    PF_DAY,
    format_bytes,
    format_count,
    format_duration,
    format_flops,
    parse_bytes,
    parse_count,
    parse_duration,
    parse_flops,
)

Parser = Callable[[str], float]
PARSERS: tuple[Parser, ...] = (parse_bytes, parse_count, parse_flops, parse_duration)

# (parser, text, value, why)
READ = [
    (parse_bytes, "80GiB", 80 * 2**30, "IEC 80000-13: Gi is 2^30"),
    (parse_bytes, "80 GB", 80 * 10**9, "SI: G is 1e9"),
    (parse_bytes, "80gb", 80 * 10**9, "any case"),
    (parse_bytes, "80gib", 80 * 2**30, "any case"),
    (parse_bytes, "80Gi", 80 * 2**30, "Kubernetes' spelling"),
    (parse_bytes, "512MiB", 512 * 2**20, "IEC 80000-13"),
    (parse_bytes, "1.5TB", 1_500_000_000_000, "SI"),
    (parse_bytes, "24564MiB", 25_757_220_864, "an RTX 4090 in nvidia-smi"),
    (parse_bytes, "81559MiB", 85_520_809_984, "an H100 in nvidia-smi"),
    (parse_bytes, "1KB", 1000, "K is 1000 in any case: 1024 is Ki"),
    (parse_bytes, "1024", 1024, "bare means bytes"),
    (parse_bytes, "1024B", 1024, "bytes"),
    (parse_bytes, "1024 bytes", 1024, "bytes"),
    (parse_bytes, "0", 0, "nothing"),
    (parse_bytes, "0.1GiB", 107_374_182, "107374182.4 to the nearest byte"),
    (parse_bytes, "0.3KiB", 307, "307.2 to the nearest byte"),
    (parse_bytes, "0.7KiB", 717, "716.8 to the nearest byte"),
    (parse_bytes, "0.000000000931322574615478515625GiB", 1, "2^-30 GiB"),
    (parse_bytes, "9007199254740993", 2**53 + 1, "no float holds it"),
    (parse_count, "7B", 7_000_000_000, ""),
    (parse_count, "7b", 7_000_000_000, "any case"),
    (parse_count, "300 B", 300_000_000_000, "Brown et al. 2020: 300 billion tokens"),
    (parse_count, "300 billion", 300_000_000_000, "in words"),
    (parse_count, "7G", 7_000_000_000, "SI"),
    (parse_count, "1.4T", 1_400_000_000_000, "Hoffmann et al. 2022: 1.4 trillion tokens"),
    (parse_count, "125M", 125_000_000, ""),
    (parse_count, "32k", 32_000, "k is 1000"),
    (parse_count, "32K", 32_000, "any case"),
    (parse_count, "32Ki", 32_768, "Ki is 1024"),
    (parse_count, "1Mi", 1_048_576, "Mi is 2^20"),
    (parse_count, "5.76e23", 576 * 10**21, "exact: the float 5.76e23 is 30 million off"),
    (parse_count, "8.03e9", 8_030_000_000, ""),
    (parse_count, "1.5e1", 15, "whole after all"),
    (parse_count, "8192", 8192, ""),
    (parse_count, "1_000_000", 1_000_000, "Python's grouping"),
    (parse_count, ".5k", 500, ""),
    (parse_count, " 7B ", 7_000_000_000, "blanks around"),
    (parse_flops, "5.76e23", 576 * 10**21, ""),
    (parse_flops, "3.14e23", 314 * 10**21, "GPT-3 175B: Brown et al. 2020, table D.1"),
    (parse_flops, "1 EFLOP", 10**18, "exa"),
    (parse_flops, "1e3 eflop", 10**21, "an exponent and exa"),
    (parse_flops, "10 ZFLOP", 10**22, "zetta"),
    (parse_flops, "10 zettaFLOPs", 10**22, "in words"),
    (parse_flops, "12 FLOP", 12, ""),
    (parse_flops, "3640 PF-days", 3640 * 864 * 10**17, "GPT-3 175B: Brown et al. 2020, table D.1"),
    (parse_flops, "3640 petaFLOP/s-days", 3640 * 864 * 10**17, "the long form"),
    (parse_flops, "3640 pfs-days", 3640 * 864 * 10**17, "the form of OpenAI's blog"),
    (parse_flops, "3640 PFLOPS·days", 3640 * 864 * 10**17, ""),
    (parse_flops, "1 PF-day", 864 * 10**17, "1e15 × 86400"),
    (parse_flops, "1 EF-day", 864 * 10**20, "a thousand of them"),
    (parse_duration, "45s", 45.0, ""),
    (parse_duration, "90m", 5400.0, "m is minutes"),
    (parse_duration, "12h", 43_200.0, ""),
    (parse_duration, "3d", 259_200.0, ""),
    (parse_duration, "30 days", 2_592_000.0, ""),
    (parse_duration, "2.5 weeks", 1_512_000.0, ""),
    (parse_duration, "0.1s", 0.1, "correctly rounded"),
]

NONSENSE = [
    "", " ", "abc", "nan", "inf", "-inf", "Infinity", "-5GiB", "-5", "7BB", "1e400", "1e999999999", "1e-999999999",
    "1" * 41, "9e40B", "9e40d", "1" * 10**6, "x" * 10**6, " " * 10**6, ".", "e5", "1e", "1__0", "_1", "1 000",
    "1,00", "1,0000", "10,00,000", ",000",
    "1.2.3", "5 -B", "0x10", "٣B", "７B", "GiB", "1\x00", "None", "1e5e5", "--5", "$5",
]  # fmt: skip

# (parser, text, words of the one sentence that refuses it)
REFUSED = [
    (parse_bytes, "80G", ("'80G'", "ambiguous", "GB (1e9", "GiB (2^30")),
    (parse_bytes, "80m", ("MB (1e6", "MiB (2^20")),
    (parse_bytes, "1.5", ("'1.5'", "whole number of bytes")),
    (parse_bytes, "7B5", ("'7B5'", "80GiB")),
    (parse_bytes, "-5GiB", ("'-5GiB'", "80GiB", "80GB")),
    (parse_bytes, "80 days", ("'80 days'", "memory")),
    (parse_count, "1.5", ("'1.5'", "whole number", "7B")),
    (parse_count, "1.0005k", ("'1.0005k'", "whole number")),
    (parse_count, "7GB", ("'7GB'", "7B")),
    (parse_count, "1e400", ("'1e400'", "1e40")),
    (parse_flops, "10 PFLOP/s", ("speed", "PF-days")),
    (parse_flops, "3640 PF", ("'3640 PF'", "PF-days")),
    (parse_flops, "7B", ("'7B'", "5.76e23")),
    (parse_duration, "30", ("'30'", "unit", "3d")),
    (parse_duration, "3 months", ("'3 months'", "2.5 weeks")),
    (lambda text: len(format_bytes(1, text)), "Gib", ("'Gib'", "did you mean GiB")),
]

# (text printed, call, value)
PRINTED = [
    ("0 B", format_bytes, 0),
    ("1023 B", format_bytes, 1023),
    ("1.00 KiB", format_bytes, 1024),
    ("74.51 GiB", format_bytes, 80_000_000_000),
    ("79.65 GiB", format_bytes, 85_520_809_984),
    ("1.00 GiB", format_bytes, 2**30 - 1),
    ("1019.90 MiB", format_bytes, 1_069_442_662),
    ("-1.50 GiB", format_bytes, -3 * 2**29),
    ("1.36 TiB", format_bytes, 1.5e12),
    ("0", format_count, 0),
    ("999", format_count, 999),
    ("8192", format_count, 8192),
    ("12.5", format_count, 12.5),
    ("10k", format_count, 9999.6),
    ("32.8k", format_count, 32_768),
    ("131k", format_count, 131_072),
    ("125M", format_count, 125_000_000),
    ("1B", format_count, 999_999_999),
    ("8.03B", format_count, 8_030_261_248),
    ("671B", format_count, 671_026_419_200),
    ("1.4T", format_count, 1_400_000_000_000),
    ("5.76e23", format_count, 576 * 10**21),
    ("-7B", format_count, -7_000_000_000),
    ("3.14e23 FLOP", format_flops, 3640 * PF_DAY),
    ("8.64e19 FLOP", format_flops, PF_DAY),
    ("1e6 FLOP", format_flops, 1_000_000),
    ("12 FLOP", format_flops, 12),
    ("0.25 s", format_duration, 0.25),
    ("45 s", format_duration, 45),
    ("90 min", format_duration, 5400),
    ("12 h", format_duration, 43_200),
    ("2 days", format_duration, 47.99 * 3600),
    ("30 days", format_duration, 30 * 86_400),
    ("999 days", format_duration, 999 * 86_400),
    ("3.01 years", format_duration, 1100 * 86_400),
]


@pytest.mark.parametrize(("parser", "text", "value", "why"), READ, ids=[f"{p.__name__}-{t}" for p, t, _, _ in READ])
def test_reads_exactly(parser: Parser, text: str, value: float, why: str) -> None:
    result = parser(text)
    assert result == value, why
    assert type(result) is type(value)


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("text", NONSENSE, ids=lambda text: repr(text[:12]))
def test_nonsense_is_refused_in_one_short_sentence(parser: Parser, text: str) -> None:
    started = process_time()
    with pytest.raises(InputError) as refusal:
        parser(text)
    assert process_time() - started < 5, "cost grows with a power of the length"
    message = str(refusal.value)
    assert len(message) < 250
    assert "\n" not in message
    assert message.startswith(("'", '"'))


@pytest.mark.parametrize(("parser", "text", "words"), REFUSED, ids=[text for _, text, _ in REFUSED])
def test_refusals_say_what_was_given_and_what_is_accepted(parser: Parser, text: str, words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as refusal:
        parser(text)
    assert [word for word in words if word not in str(refusal.value)] == [], refusal.value


@pytest.mark.parametrize(("text", "printer", "value"), PRINTED, ids=[text for text, _, _ in PRINTED])
def test_prints(text: str, printer: Callable[[float], str], value: float) -> None:
    assert printer(value) == text


def test_prints_bytes_in_the_unit_asked_for() -> None:
    assert format_bytes(80_000_000_000, "GB", 0) == "80 GB"
    assert format_bytes(85_520_809_984, "GB", 1) == "85.5 GB"
    assert format_bytes(85_520_809_984, "MiB", 0) == "81559 MiB"


def test_a_petaflop_day_is_a_quadrillion_a_second() -> None:
    assert PF_DAY == 86_400 * 10**15 == int(8.64e19)


@given(st.decimals(0, 10**6, allow_nan=False, places=9), st.sampled_from(["MB", "GB", "TB", "MiB", "GiB", "TiB"]))
def test_fractions_round_to_the_nearest_byte(number: Decimal, unit: str) -> None:
    exact = Decimal(number) * BYTE_UNITS[unit]
    assert parse_bytes(f"{number:f}{unit}") == int(exact.to_integral_value(ROUND_HALF_UP))


@given(st.integers(0, 10**30))
def test_printed_quantities_are_read_back_within_their_digits(value: int) -> None:
    assert parse_count(format_count(value)) == pytest.approx(value, rel=5.01e-3)
    assert parse_flops(format_flops(value)) == pytest.approx(value, rel=5.01e-3)
    assert parse_duration(format_duration(value)) == pytest.approx(value, rel=5.01e-3)
    assert parse_bytes(format_bytes(value)) == pytest.approx(value, rel=5.01e-3)


@given(st.text(max_size=80), st.sampled_from(PARSERS))
def test_any_text_is_read_or_refused(text: str, parser: Parser) -> None:
    try:
        value = parser(text)
    except InputError:
        return
    assert 0 <= value <= 10**40
