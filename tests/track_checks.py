"""What every reconstruction has to keep, for the contract test and for the tests of whatever passes it on."""

import numpy as np


def assert_valid(tracks, n_hits):
    """Labels are 0, 1, ... or -1, one per hit; parameters, if any, are possible ones, one row per label."""
    labels = tracks.labels
    assert labels.shape == (n_hits,)
    assert labels.dtype == np.int64
    assigned = np.unique(labels[labels >= 0])
    np.testing.assert_array_equal(assigned, np.arange(assigned.size))
    assert labels.min(initial=0) >= -1
    if tracks.parameters is not None:
        assert len(tracks.parameters) == assigned.size, "not one row of parameters per candidate"
        assert_possible(tracks.parameters)


def assert_possible(parameters):
    """Parameters are finite and in range, covariances symmetric and positive definite."""
    assert parameters.values.shape == (len(parameters), 5)
    for name in ("values", "covariance", "chi2"):
        assert np.isfinite(getattr(parameters, name)).all(), f"{name} is not finite"
    phi, theta = parameters.values[:, 2], parameters.values[:, 3]
    assert ((phi > -np.pi) & (phi <= np.pi)).all(), "phi is not in (-pi, pi]"
    assert ((theta > 0) & (theta < np.pi)).all(), "theta is not in (0, pi)"
    assert (parameters.chi2 >= 0).all(), "negative chi2"
    assert (parameters.n_dof >= 0).all(), "negative n_dof"
    assert (parameters.n_holes >= -1).all(), "n_holes below -1"
    variance = np.diagonal(parameters.covariance, axis1=1, axis2=2)
    assert (variance > 0).all(), "a variance is not positive"
    # Units differ by orders of magnitude, so definiteness is asked of the correlation.
    error = np.sqrt(variance)
    correlation = parameters.covariance / (error[:, :, None] * error[:, None, :])
    np.testing.assert_allclose(correlation, correlation.transpose(0, 2, 1), rtol=0, atol=1e-9)
    assert np.linalg.eigvalsh(correlation).min(initial=1.0) > 0, "a covariance is not positive definite"


def assert_near_truth(tracks, truth):
    """The parameters are those of the particles, so signs and units are right (loose, for toy events).

    tracks: of an event whose particles come from the beam line with pT > 2 GeV
    """
    difference = []
    table = truth.particles.set_index("particle_id")
    for label, row in enumerate(tracks.parameters.values):
        pids, counts = np.unique(truth.particle_id[tracks.labels == label], return_counts=True)
        if pids[counts.argmax()] == 0 or 2 * counts.max() <= counts.sum():
            continue
        particle = table.loc[pids[counts.argmax()]]
        theta = 2 * np.arctan(np.exp(-particle["eta"]))
        d = row - [0.0, particle["vz"], particle["phi"], theta, particle["q"] / particle["pt"]]
        d[2] = np.mod(d[2] + np.pi, 2 * np.pi) - np.pi
        difference.append(np.abs(d))
    assert difference, "no candidate belongs to a particle"
    median = np.median(difference, axis=0)
    limit = [0.2, 0.5, 0.01, 0.01, 0.05]  # mm, mm, rad, rad, 1/GeV: a few errors of hits known to 0.02 mm
    assert (median < limit).all(), f"median distance to the truth {median}, limits {limit}"


def rows_by_track(tracks, hit_id):
    """Set of hit_id -> row of parameters, flattened; independent of the numbering. Empty without parameters."""
    p = tracks.parameters
    if p is None:
        return {}
    flat = np.column_stack((p.values, p.covariance.reshape(-1, 25), p.chi2, p.n_dof, p.n_holes))
    return {frozenset(hit_id[tracks.labels == label].tolist()): row.tolist() for label, row in enumerate(flat)}
