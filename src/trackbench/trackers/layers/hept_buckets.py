"""Few lengths that events are padded to, so that a compiled network meets few shapes. No torch here.

Source: the latency runs of HEPTv2 (github.com/Graph-COM/HEPTv2), which pad to multiples of 4,092 hits up to 77,748.
Differs from it in: multiples of powers of two, of which blocks of attention are whole parts, and longer events: eight
lengths per factor of two beyond 65,536 hits, an eighth of padding at most.
"""

from bisect import bisect_left

from trackbench.errors import InputError, describe

STEP = 4096  # between lengths up to EVEN
EVEN = 65_536
LARGEST = 524_288
PER_OCTAVE = 8

BUCKETS = (
    *range(STEP, EVEN, STEP),
    *(start + k * start // PER_OCTAVE for start in (EVEN, 2 * EVEN, 4 * EVEN) for k in range(PER_OCTAVE)),
    LARGEST,
)


def bucket(n_hits: int, where: str = "event") -> int:
    """Smallest of ``BUCKETS`` that holds an event.

    n_hits: >= 0; where: what the event is called in an error
    Raises InputError for an event longer than the largest one.
    """
    if n_hits > LARGEST:
        remedy = "set trackers.heptv2.compiled to false, or reconstruct the event in sectors"
        raise InputError(describe(where, f"{n_hits} hits", f"at most {LARGEST}, the largest padded length", remedy))
    return BUCKETS[bisect_left(BUCKETS, n_hits)]
