"""TrackML-like simulation: Pythia8, ACTS Fatras, our own digitisation, noise and weights."""
