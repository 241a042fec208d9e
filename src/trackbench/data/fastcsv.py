"""A compiled parser for the plain csv of numbers that TrackML files are.

It accepts only what it can convert exactly and gives up on everything else (quotes, spaces, blank
lines, NaN, text, too many digits, short lines, overflow); the caller then takes the general parser,
which also makes the error messages. So nothing here can disagree with the general parser.
"""

import numba
import numpy as np

TYPES = ("int32", "int64", "float32")
_INT32, _INT64, _FLOAT32 = range(3)

# A float is mantissa * 10^k or mantissa / 10^k with both factors exact in binary, hence rounded once
# (the fast case of Clinger, "How to read floating point numbers accurately", PLDI 1990).
_POWERS = 10.0 ** np.arange(23)
_MAX_POWER = 22
_MAX_EXACT = np.uint64(1 << 53)
_MAX_DIGITS = 19  # more might overflow the unsigned 64-bit mantissa
_LIMITS = np.array([(1 << 31) - 1, (1 << 63) - 1], dtype=np.uint64)

_NEWLINE, _RETURN, _PLUS, _COMMA, _MINUS, _POINT, _ZERO, _E = (np.uint8(ord(c)) for c in "\n\r+,-.0e")
_TEN = np.uint8(10)
# Positions are unsigned: numba then leaves out the test for negative indices, half of the time.
_ONE = np.uint64(1)


def parse_numbers(data: bytes, start: int, kinds: list[str]) -> list[np.ndarray] | None:
    """Parse the rows of a csv table of numbers.

    data: content of the file; start: position of the first row; kinds: type of each column, one of
        ``TYPES``
    Returns one (n_rows,) array per column, floats rounded to float64 on the way as pandas does, or None
    if the table is not plain. Cost: one pass.
    """
    if not data.endswith(b"\n"):
        return None  # the parser relies on the newline to stop at the end
    text = np.frombuffer(data, dtype=np.uint8)[start:]
    n_rows = _count_lines(text)
    codes = np.array([TYPES.index(kind) for kind in kinds])
    slots = np.array([kinds[:i].count(kind) for i, kind in enumerate(kinds)])
    tables = tuple(np.empty((kinds.count(kind), n_rows), dtype=kind) for kind in TYPES)
    if not _parse(text, codes, slots, *tables):
        return None
    return [tables[code][slot] for code, slot in zip(codes, slots, strict=True)]


@numba.njit(cache=True, nogil=True)
def _count_lines(text):
    """Count the newlines, without the temporary array that numpy would make."""
    count = 0
    for character in text:
        count += character == _NEWLINE
    return count


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _parse(text, codes, slots, int32s, int64s, float32s):
    """Fill the tables. Returns whether all of the text was plain."""
    position, end, row, n_columns = np.uint64(0), np.uint64(len(text)), 0, len(codes)
    while position < end:
        for column in range(n_columns):
            code, slot = codes[column], slots[column]
            negative = text[position] == _MINUS
            if negative:
                position += _ONE
            first = position
            position, mantissa = _digits(text, position, np.uint64(0))
            n_digits = position - first
            if code == _FLOAT32:
                position, value = _finish_float(text, position, mantissa, n_digits)
                if value < 0.0:
                    return False
                float32s[slot, row] = -value if negative else value
            else:
                if n_digits == 0 or n_digits > _MAX_DIGITS or mantissa > _LIMITS[code]:
                    return False
                signed = -np.int64(mantissa) if negative else np.int64(mantissa)
                if code == _INT32:
                    int32s[slot, row] = signed
                else:
                    int64s[slot, row] = signed
            is_last = column == n_columns - 1
            if is_last and text[position] == _RETURN:
                position += _ONE
            if text[position] != (_NEWLINE if is_last else _COMMA):
                return False
            position += _ONE
        row += 1
    return True


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _digits(text, position, mantissa):
    """Append digits to the mantissa. Returns (position of the first other character, mantissa)."""
    digit = np.uint8(text[position] - _ZERO)  # wraps round: other characters give 10 or more
    while digit < _TEN:
        mantissa = mantissa * np.uint64(10) + np.uint64(digit)
        position += _ONE
        digit = np.uint8(text[position] - _ZERO)
    return position, mantissa


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _finish_float(text, position, mantissa, n_digits):
    """Read the rest of a float after its leading digits. Returns (next position, magnitude or -1)."""
    exponent = 0
    if text[position] == _POINT:
        first = position + _ONE
        position, mantissa = _digits(text, first, mantissa)
        n_digits += position - first
        exponent = -np.int64(position - first)
    if text[position] == _E:
        position += _ONE
        negative = text[position] == _MINUS
        if negative or text[position] == _PLUS:
            position += _ONE
        first = position
        position, shift = _digits(text, position, np.uint64(0))
        if not 1 <= position - first <= 3:
            return position, -1.0
        exponent += -np.int64(shift) if negative else np.int64(shift)
    if not 1 <= n_digits <= _MAX_DIGITS or mantissa > _MAX_EXACT or abs(exponent) > _MAX_POWER:
        return position, -1.0
    if exponent < 0:
        return position, np.float64(np.int64(mantissa)) / _POWERS[np.uint64(-exponent)]
    return position, np.float64(np.int64(mantissa)) * _POWERS[np.uint64(exponent)]
