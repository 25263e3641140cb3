"""What the properties of the risk rules are tried with: sane books and measurements, and broken ones."""

from __future__ import annotations

from hypothesis import strategies as st

# Every float there is: NaN, infinities, negatives, subnormals.
ANY = st.floats(allow_nan=True, allow_infinity=True)
UNIT = st.floats(0.0, 1.0)
SIGMAS = st.floats(0.0, 100.0)
LATENCIES = st.floats(0.0, 5.0)

Levels = list[tuple[float, float]]


@st.composite
def books(draw: st.DrawFn, *, rising: bool, most: int = 8) -> Levels:
    """One side, best price first: asks rise, bids fall, and some levels share a price."""
    gaps = draw(st.lists(st.floats(0.0, 0.01), min_size=1, max_size=most))
    sizes = draw(st.lists(st.floats(0.01, 100.0), min_size=len(gaps), max_size=len(gaps)))
    price, levels = draw(st.floats(0.01, 100_000.0)), []
    for gap, size in zip(gaps, sizes, strict=True):
        levels.append((price, size))
        price *= 1.0 + gap if rising else 1.0 - gap
    return levels


ASKS = books(rising=True)
BIDS = books(rising=False)
WILD_LEVELS = st.lists(st.tuples(ANY, ANY), max_size=5)
