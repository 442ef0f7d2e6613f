"""Numbers and units as a reader wants them: 6.8 k bits, 0.31 logits, 3.4 × 10⁻⁵."""

from __future__ import annotations

import math
from collections.abc import Sequence

_SUFFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_MINUS = "−"


def amount(value: float, unit: str = "", digits: int = 2) -> str:
    """A number to a few digits, with a suffix for thousands and its unit.

    Args:
        value: any finite number.
        unit: said behind it.
        digits: that count; numbers from 100 to 1000 are whole.

    >>> amount(6812.3, "bits"), amount(212.4), amount(-0.0312, "logits"), amount(3.41e-5)
    ('6.8 k bits', '212', '−0.031 logits', '3.4 × 10⁻⁵')
    """
    sign, size = (_MINUS if value < 0 else ""), abs(value)
    return f"{sign}{_magnitude(size, digits)} {unit}".rstrip()


def amounts(values: Sequence[float]) -> list[str]:
    """Numbers that stand beside each other: as many decimals as the largest needs for two digits.

    >>> amounts([0.53, 0.013, 8.8]), amounts([-0.0028, 0.0004]), amounts([6800.0, 12.0])
    (['0.5', '0.0', '8.8'], ['−0.0028', '0.0004'], ['6.8 k', '12'])

    What rounds to nothing has no sign:

    >>> amounts([-0.004, 0.8])
    ['0.00', '0.80']
    """
    top = max((abs(value) for value in values), default=0.0)
    if not 1e-3 <= top < 1e3:
        return [amount(value) for value in values]
    decimals = max(0, 1 - math.floor(math.log10(top)))
    rounded = [round(value, decimals) + 0.0 for value in values]  # −0.0 + 0.0 is 0.0
    return [f"{value:.{decimals}f}".replace("-", _MINUS) for value in rounded]


def unit_of(unit: str, pair: bool, answer: bool = False) -> str:
    """What the outputs of a model are called: a pair's is a cosine, a classifier's are logits, an
    answer's is a log-probability in nats.

    Args:
        unit: as a method's facts say it, perhaps ``"output units"``.
        pair: whether the model compares two inputs.
        answer: whether it answers.

    >>> unit_of("output units per input value", pair=False), unit_of("bits", pair=True)
    ('logits per input value', 'bits')
    """
    return unit.replace("output units", "nats" if answer else "cosine" if pair else "logits")


def _magnitude(size: float, digits: int) -> str:
    if size == 0:
        return "0"
    rounded = _rounded(size, digits)
    if rounded >= 1e15:
        return _power(size, digits)
    for factor, suffix in _SUFFIXES:
        if rounded >= factor:
            return f"{_plain(size / factor, digits)} {suffix}"
    return _plain(size, digits) if rounded >= 1e-3 else _power(size, digits)


def _plain(size: float, digits: int) -> str:
    """Without an exponent; what stands before the point is never rounded away."""
    rounded = _rounded(size, max(digits, 1 + math.floor(math.log10(size))))
    return f"{rounded:.15g}" if rounded < 1e4 else f"{rounded:.0f}"


def _power(size: float, digits: int) -> str:
    exponent = math.floor(math.log10(size))
    mantissa = _rounded(size / 10**exponent, digits)
    if mantissa >= 10:
        mantissa, exponent = mantissa / 10, exponent + 1
    return f"{mantissa:g} × 10{str(exponent).translate(_RAISED)}"


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}") if digits < 15 else value
