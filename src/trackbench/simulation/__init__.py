"""TrackML-like simulation: Pythia8, ACTS Fatras, our own digitisation, noise and weights.

Needs the extra ``simulate`` (pyacts, pythia8mc) when it runs, not when it is imported.
"""
