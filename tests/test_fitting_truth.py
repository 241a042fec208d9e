"""Pulls and chi2 of the fit on particles stepped through the layers with Gaussian scattering and resolution.

The particles are moved by their direction and momentum in space, so this also checks that scattering per
transverse path, in the two planes apart, is what scattering in space amounts to.
"""

import fitting_toys as toys
import naive_fitting as naive
import numpy as np
import pytest
from scipy import stats

from trackbench.fitting import gls
from trackbench.fitting.helix import from_two_hits
from trackbench.fitting.tables import PIPE_RADIUS, new_work
from trackbench.geometry.detector import CURVATURE

LAYERS = toys.pixel_layers(sigma_t=0.012, sigma_l=0.016, thickness=0.012, sharing=0.4)
MODEL = toys.model(pipe=0.004)
N = 6000
# Sets of layers and the range of eta in which every particle crosses them all.
REGIONS = {"barrel": (toys.BARREL, (-1.3, 1.3)), "disks": (toys.DISKS_PLUS, (2.95, 3.3))}


class Particles:
    """State of n particles: position [mm], momentum [GeV], charge."""

    def __init__(self, rng, eta, n=N):
        self.rng, self.n = rng, n
        pt, phi0 = np.exp(rng.uniform(np.log(0.9), np.log(20.0), n)), rng.uniform(-np.pi, np.pi, n)
        self.charge, cot = rng.choice([-1.0, 1.0], n), np.sinh(rng.uniform(*eta, n))
        d0, z0 = rng.normal(0, MODEL.sigma_d0, n), rng.normal(0, 5.5, n)
        self.true = np.column_stack([phi0, self.charge / pt, d0, z0, cot])
        self.x = np.column_stack([-d0 * np.sin(phi0), d0 * np.cos(phi0), z0])
        self.momentum = pt[:, None] * np.column_stack([np.cos(phi0), np.sin(phi0), cot])

    def move(self, s):
        """Move along the helices by the transverse paths s (n,)."""
        px, py, pz = self.momentum.T
        pt = np.hypot(px, py)
        half = -CURVATURE * self.charge / pt * s
        azimuth = np.arctan2(py, px)
        chord = s * np.sinc(half / np.pi)
        self.x = self.x + np.column_stack([chord * np.cos(azimuth + half), chord * np.sin(azimuth + half), s * pz / pt])
        self.momentum = np.column_stack([pt * np.cos(azimuth + 2 * half), pt * np.sin(azimuth + 2 * half), pz])

    def to_radius(self, radius):
        """Move to a cylinder, by secant steps."""
        for _ in range(12):
            r = np.hypot(self.x[:, 0], self.x[:, 1])
            radial = (self.x[:, :2] * self.momentum[:, :2]).sum(1) / (np.maximum(r, 1e-3) * self.p_t())
            self.move(np.clip((radius - r) / np.maximum(radial, 0.1), -50.0, 50.0) if r.min() > 1 else radius - r)

    def to_plane(self, z):
        """Move to a plane z = constant."""
        self.move((z - self.x[:, 2]) * self.p_t() / self.momentum[:, 2])

    def p_t(self):
        return np.hypot(self.momentum[:, 0], self.momentum[:, 1])

    def scatter(self, thickness, normal):
        """Turn the momenta by Highland's angle in two planes; normal: (n,) cosine of the angle of incidence."""
        p = np.linalg.norm(self.momentum, axis=1)
        direction = self.momentum / p[:, None]
        angle = 0.0136 / p * np.sqrt(thickness / normal)
        first = np.cross(direction, [0.0, 0.0, 1.0])
        first /= np.linalg.norm(first, axis=1)[:, None]
        second = np.cross(direction, first)
        kicks = [self.rng.normal(0, angle)[:, None] * axis for axis in (first, second)]
        turned = direction + kicks[0] + kicks[1]
        self.momentum = p[:, None] * turned / np.linalg.norm(turned, axis=1)[:, None]


def measured(region, seed):
    """Return the true tracks (n, 5) and, for each, the measured hits."""
    layers, eta = REGIONS[region]
    rng = np.random.default_rng(seed)
    particles = Particles(rng, eta)
    particles.to_radius(PIPE_RADIUS)
    particles.scatter(MODEL.pipe, particles.p_t() / np.linalg.norm(particles.momentum, axis=1))
    columns = []
    for layer in layers:
        barrel = LAYERS.barrel[layer]
        (particles.to_radius if barrel else particles.to_plane)(LAYERS.position[layer])
        x, y, z = particles.x.T
        slope = np.abs(particles.momentum[:, 2] / particles.p_t())
        r, sigma_l = (
            np.hypot(x, y),
            LAYERS.sigma_l[layer] / (1 + LAYERS.sharing[layer] * (slope if barrel else 1 / slope)) ** 2,
        )
        assert np.all(
            (r > LAYERS.low[layer]) & (r < LAYERS.high[layer]) if not barrel else np.abs(z) < LAYERS.high[layer]
        )
        phi = np.arctan2(y, x) + rng.normal(0, LAYERS.sigma_t[layer], N) / r
        off = rng.normal(0, np.maximum(sigma_l, 0.002))
        columns.append((r, phi, z + off, np.full(N, layer)) if barrel else (r + off, phi, z, np.full(N, layer)))
        normal = (particles.p_t() if barrel else np.abs(particles.momentum[:, 2])) / np.linalg.norm(
            particles.momentum, axis=1
        )
        particles.scatter(LAYERS.thickness[layer], normal)
    stacked = [np.column_stack(column) for column in zip(*columns, strict=True)]
    return particles.true, [naive.Measured(*(column[i] for column in stacked)) for i in range(N)]


@pytest.fixture(scope="module", params=REGIONS)
def fits(request):
    """Fit all particles of a region. Returns pulls (n, 5), chi2 (n,) and the degrees of freedom."""
    true, tracks = measured(request.param, seed=[12, len(REGIONS[request.param][0])])
    work, pulls, chi2 = new_work(), np.empty((N, 5)), np.empty(N)
    for i, hits in enumerate(tracks):
        event, (rows,) = toys.together(hits)
        p, index = np.zeros(5), toys.candidate(rows)
        from_two_hits(hits.phi[0], hits.r[0], hits.z[0], hits.phi[2], hits.r[2], hits.z[2], p)
        chi2[i] = gls.fit(index, len(rows), event, LAYERS, MODEL, p, work, 3)
        difference = p - true[i]
        difference[0] = naive.wrapped(difference[0])
        pulls[i] = difference / np.sqrt(np.concatenate([np.diag(work.cov_t), np.diag(work.cov_l)]))
    # Two measurements per hit and the prior of d0, five parameters.
    return pulls, chi2, 2 * len(REGIONS[request.param][0]) + 1 - 5


@pytest.mark.parametrize("parameter", ["phi0", "k", "d0", "z0", "cot"])
def test_pulls_are_standard_normal(fits, parameter):
    pulls = fits[0][:, ["phi0", "k", "d0", "z0", "cot"].index(parameter)]
    assert abs(pulls.mean()) < 3.5 / np.sqrt(N)
    assert pulls.std() == pytest.approx(1.0, abs=0.05)  # its own error is 0.9 %
    assert np.abs(pulls).max() < 6


def test_chi2_probability_is_flat(fits):
    _, chi2, n_dof = fits
    probability = stats.chi2.sf(chi2, n_dof)
    assert stats.kstest(probability, "uniform").pvalue > 0.003
    assert chi2.mean() == pytest.approx(n_dof, rel=0.03)
