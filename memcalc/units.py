"""Quantities as people write them, and back: bytes, counts of parameters or tokens, FLOP, durations.

Inside memcalc a quantity is a plain number in its base unit: B, count, FLOP, s. Reading is exact integer arithmetic,
never a float: 1.4T is 1 400 000 000 000 and 0.1GiB the nearest whole byte. GB is 1e9 bytes and GiB 2^30, never mixed.
"""

import re

from memcalc.errors import InputError, nearest

PF_DAY = 86_400 * 10**15
"""One petaFLOP/s-day [FLOP]: 1e15 FLOP/s for the 86 400 seconds of a day, 8.64e19 FLOP.

The unit of Amodei and Hernandez 2018, "AI and compute", and of Brown et al. 2020, appendix D.
"""

BYTE_UNITS = {
    "B": 1,
    "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50,
}  # fmt: skip

BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")

COUNT_UNITS = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}

SECONDS = {"s": 1, "min": 60, "h": 3_600, "days": 86_400, "years": 365 * 86_400}

# What is read, beyond the spellings above; lower case.
_BYTES = {
    **{unit.lower(): size for unit, size in BYTE_UNITS.items()},
    **{unit[:2].lower(): size for unit, size in BYTE_UNITS.items() if len(unit) == 3},  # Gi, as Kubernetes writes it
    "": 1, "byte": 1, "bytes": 1,
}  # fmt: skip
_COUNTS = {
    **{unit.lower(): size for unit, size in COUNT_UNITS.items()},
    "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30,
    "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
}  # fmt: skip
_SECONDS = {
    **SECONDS,
    "sec": 1, "secs": 1, "second": 1, "seconds": 1,
    "m": 60, "mins": 60, "minute": 60, "minutes": 60,
    "hr": 3_600, "hrs": 3_600, "hour": 3_600, "hours": 3_600,
    "d": 86_400, "day": 86_400,
    "w": 604_800, "week": 604_800, "weeks": 604_800,
    "y": SECONDS["years"], "year": SECONDS["years"],
}  # fmt: skip
_SI = {
    "": 0, "k": 3, "m": 6, "g": 9, "t": 12, "p": 15, "e": 18, "z": 21, "y": 24,
    "kilo": 3, "mega": 6, "giga": 9, "tera": 12, "peta": 15, "exa": 18, "zetta": 21, "yotta": 24,
}  # fmt: skip

_NUMBER = r"\s*\+?(\d{1,3}(?:,\d{3})+(?![\d,])|\d+(?:_\d+)*)?(?:\.(\d+(?:_\d+)*)?)?(?:[eE]([+-]?\d+))?\s*((?![\d.,_+-]).*?)?\s*"
_FLOP = r"(?:(kilo|mega|giga|tera|peta|exa|zetta|yotta|[kmgtpezy])?(?:flops?|(?:f|flops?)(?:/s|s)?(days?)))?"

_LONGEST = 64  # characters; no quantity needs more
_LARGEST = 40  # power of ten; all compute ever spent on training is far below 1e40 FLOP


def parse_bytes(text: str) -> int:
    """Bytes [B]: a number with B, kB … PB (powers of 1000) or KiB … PiB (powers of 1024), in any case; bare is bytes.

    >>> parse_bytes("80GiB"), parse_bytes("80 GB"), parse_bytes("24564MiB"), parse_bytes("1024")
    (85899345920, 80000000000, 25757220864, 1024)
    >>> parse_bytes("0.1GiB")
    107374182
    """
    expected = "an amount of memory; write 80GiB (2^30 bytes), 80GB (1e9 bytes), 512MiB or 1024 (bytes)"
    digits, power, unit = _split(text, expected)
    if unit in ("k", "m", "g", "t", "p"):
        letter = unit.upper()
        exponent = "kmgtp".index(unit) + 1
        raise InputError(
            f"{_shown(text)} is ambiguous; write {letter}B (1e{3 * exponent} bytes) or {letter}iB (2^{10 * exponent})"
        )
    size = _factor(_BYTES, unit, text, expected)
    numerator, denominator = _exactly(digits * size, power, text)
    if size == 1 and numerator % denominator:
        raise InputError(f"{_shown(text)} is not a whole number of bytes; write 80GiB, 80GB, 512MiB or 1024")
    return (2 * numerator + denominator) // (2 * denominator)


def parse_memory(text: str) -> int:
    """Bytes [B] of some device's memory: as `parse_bytes`, but a bare number below 1 MiB has surely lost its unit.

    >>> parse_memory("8GiB"), parse_memory("62400000000")
    (8589934592, 62400000000)
    """
    size = parse_bytes(text)
    if 0 < size < LEAST_BARE and text.strip()[-1:].isdigit():
        raise InputError(f"{_shown(text)} would be {size} bytes; write a unit: {_shown(text.strip() + 'GiB')} or 512MiB")
    return size


LEAST_BARE = 2**20  # bytes; no memory or limit that people mean is less


def parse_bandwidth(text: str) -> int:
    """Bytes a second [B/s]: an amount of memory, with or without /s.

    >>> parse_bandwidth("936GB/s"), parse_bandwidth("3.35TB/s"), parse_bandwidth("2e12")
    (936000000000, 3350000000000, 2000000000000)
    """
    return parse_bytes(re.sub(r"\s*(?:/s|ps)\s*$", "", text, flags=re.IGNORECASE))


def parse_speed(text: str) -> int:
    """FLOP a second [FLOP/s]: plain, or FLOP/s, FLOPS or nothing after an SI prefix.

    >>> parse_speed("989TFLOP/s") == parse_speed("989 TFLOPS") == parse_speed("989T") == parse_speed("9.89e14")
    True
    """
    expected = "a speed; write 989TFLOP/s or 9.89e14"
    digits, power, unit = _split(text, expected)
    match = re.fullmatch(r"(kilo|mega|giga|tera|peta|exa|[kmgtpe])?(?:flops?(?:/s)?)?", unit)
    if not match:
        raise InputError(f"{_shown(text)} is not {expected}")
    numerator, denominator = _exactly(digits * 10 ** _SI[match[1] or ""], power, text)
    return (2 * numerator + denominator) // (2 * denominator)


def parse_count(text: str) -> int:
    """A whole number of parameters or tokens: plain, with k, M, B (or G), T (powers of 1000), or with Ki, Mi, Gi.

    >>> parse_count("7B"), parse_count("1.4T"), parse_count("32k"), parse_count("32Ki"), parse_count("1_000_000")
    (7000000000, 1400000000000, 32000, 32768, 1000000)
    >>> parse_count("8,192")
    8192
    """
    expected = "a count; write 7B, 1.4T, 125M, 32k, 5.76e23 or 8192"
    digits, power, unit = _split(text, expected)
    numerator, denominator = _exactly(digits * _factor(_COUNTS, unit, text, expected), power, text)
    if numerator % denominator:
        raise InputError(f"{_shown(text)} is not a whole number; write a count such as 7B, 1.4T, 32k or 8192")
    return numerator // denominator


def parse_flops(text: str) -> int:
    """Floating-point operations [FLOP]: plain, with FLOP under an SI prefix, or in PF-days (see PF_DAY).

    >>> parse_flops("5.76e23") == parse_flops("576 ZFLOP") == 576 * 10**21
    True
    >>> parse_flops("3640 PF-days") == parse_flops("3640 petaFLOP/s-days") == 3640 * PF_DAY
    True
    """
    expected = "an amount of compute; write 5.76e23, 576 ZFLOP or 3640 PF-days"
    digits, power, unit = _split(text, expected)
    unit = re.sub(r"[\s·*-]", "", unit)
    if unit.endswith("/s"):
        raise InputError(f"{_shown(text)} is a speed, not {expected}")
    match = re.fullmatch(_FLOP, unit)
    if not match:
        raise InputError(f"{_shown(text)} is not {expected}")
    prefix, days = match.groups()
    numerator, denominator = _exactly(digits * 10 ** _SI[prefix or ""] * (86_400 if days else 1), power, text)
    return (2 * numerator + denominator) // (2 * denominator)


def parse_duration(text: str) -> float:
    """Seconds [s], from a number with s, min (or m), h, days (or d), weeks (or w) or years (of 365 days).

    >>> parse_duration("3d"), parse_duration("90m"), parse_duration("2.5 weeks")
    (259200.0, 5400.0, 1512000.0)
    """
    expected = "a duration; write a number with its unit: 45s, 90m, 12h, 3d or 2.5 weeks"
    digits, power, unit = _split(text, expected)
    numerator, denominator = _exactly(digits * _factor(_SECONDS, unit, text, expected), power, text)
    return numerator / denominator


def format_bytes(value: float, unit: str = "auto", digits: int = 2) -> str:
    """Bytes [B] in the largest binary unit that leaves at least one of it, or in the unit asked for.

    >>> format_bytes(80_000_000_000), format_bytes(80_000_000_000, "GB", 0), format_bytes(512)
    ('74.51 GiB', '80 GB', '512 B')
    """
    if unit == "auto":
        unit = next((u for u in BINARY[:-1] if round(abs(value) / BYTE_UNITS[u], digits) < 1024), BINARY[-1])
    if unit not in BYTE_UNITS:
        raise InputError(f"{_shown(unit)} is not a unit of memory ({', '.join(BYTE_UNITS)}){nearest(unit, BYTE_UNITS)}")
    return f"{value / BYTE_UNITS[unit]:.{0 if unit == 'B' else digits}f} {unit}"


def format_count(value: float) -> str:
    """A count to three significant digits with k, M, B or T; below 10 000 to four, above 1e15 as a power of ten.

    >>> format_count(8_030_261_248), format_count(1_400_000_000_000), format_count(131_072), format_count(8192)
    ('8.03B', '1.4T', '131k', '8192')
    >>> format_count(5.76e23)
    '5.76e23'
    """
    if abs(float(f"{value:.4g}")) < 10_000:
        return _significant(value, 4)
    for unit, size in COUNT_UNITS.items():
        if unit and abs(float(f"{value / size:.3g}")) < 1000:
            return _significant(value / size) + unit
    return _significant(value)


def counted(count: int, what: str) -> str:
    """So many of something, in the singular where it is one.

    >>> counted(1, "GPU"), counted(1024, "GPU")
    ('1 GPU', '1,024 GPUs')
    """
    return f"{count:,} {what}{'s' * (count != 1)}"


def format_flops(value: float) -> str:
    """FLOP to three significant digits, as papers print it.

    >>> format_flops(3640 * PF_DAY), format_flops(12)
    ('3.14e23 FLOP', '12 FLOP')
    """
    return f"{_significant(value)} FLOP"


def format_duration(seconds: float) -> str:
    """Seconds [s] to three significant digits in s, min, h, days or years (of 365 days).

    >>> format_duration(45), format_duration(5400), format_duration(129_600), format_duration(1_928_000)
    ('45 s', '90 min', '36 h', '22.3 days')
    """
    # Each unit until its value reads better in the next: 2 h instead of 120 min, 2 days instead of 48 h.
    for unit, until in (("s", 120), ("min", 120), ("h", 48), ("days", 1000)):
        if abs(float(f"{seconds / SECONDS[unit]:.3g}")) < until:
            return f"{_significant(seconds / SECONDS[unit])} {unit}"
    return f"{_significant(seconds / SECONDS['years'])} years"


def _split(text: str, expected: str) -> tuple[int, int, str]:
    """The number as digits × 10^power, and the unit in lower case."""
    match = re.fullmatch(_NUMBER, text, re.ASCII) if len(text) <= _LONGEST else None
    whole, fraction, exponent, unit = match.groups(default="") if match else ("", "", "", "")
    fraction = fraction.replace("_", "")
    digits = whole.replace("_", "").replace(",", "") + fraction
    if not digits:
        raise InputError(f"{_shown(text)} is not {expected}")
    power = int(exponent or 0)
    if abs(power) > _LARGEST:
        raise _out_of_range(text)
    return int(digits), power - len(fraction), unit.lower()


def _factor(units: dict[str, int], unit: str, text: str, expected: str) -> int:
    if unit not in units:
        raise InputError(f"{_shown(text)} is not {expected}")
    return units[unit]


def _exactly(value: int, power: int, text: str) -> tuple[int, int]:
    """value × 10^power as numerator and denominator."""
    numerator, denominator = value * 10 ** max(power, 0), 10 ** max(-power, 0)
    if numerator > 10**_LARGEST * denominator:
        raise _out_of_range(text)
    return numerator, denominator


def _out_of_range(text: str) -> InputError:
    return InputError(f"{_shown(text)} is out of range; numbers go from 1e-{_LARGEST} to 1e{_LARGEST}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST else text[:20] + "…")


def _significant(value: float, digits: int = 3) -> str:
    """Rounded to so many significant digits, without trailing zeros; 5.76e23 rather than 5.76e+23."""
    mantissa, e, exponent = f"{value:.{digits}g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa
