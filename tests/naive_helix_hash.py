"""The scan of ``helix_hash`` in plain NumPy: sort, unique and bincount instead of a hash table."""

import numpy as np

from trackbench.trackers import helix_hash


class NaiveTracker(helix_hash.Tracker):
    """``helix_hash`` with the compiled part replaced, for tests and for the ratio in the benchmark."""

    def _scan(self, phi, r, z, layer, number):
        best_score = np.zeros(len(phi))
        best_label = np.full(len(phi), -1, dtype=np.int64)
        curvatures, z0, offset = self._hypotheses(number)
        n_cells = int(np.prod(self._bins()[1]))
        for i, curvature in enumerate(curvatures):
            for j, vertex in enumerate(z0):
                key, inside = self._place(phi, r, z, curvature, vertex, offset[i, j])
                score = self._score(key, inside, layer)
                better = score > best_score
                best_score[better] = score[better]
                best_label[better] = (i * z0.size + j) * n_cells + key[better]
        return best_label

    def _place(self, phi, r, z, curvature, vertex, offset):
        """Return the cell of every hit (n,) and the place inside it (n, 2) in bin widths."""
        table, (n_phi, n_eta) = self._bins()
        phi0, path = helix_hash.helix_coordinates(phi, r, curvature)
        dz = z - vertex
        position = (dz / (path + helix_hash._MIN_PATH + np.abs(dz)) + 1.0) * (0.5 * (table.size - 2))
        k = position.astype(np.int64)
        eta = table[k] + (table[k + 1] - table[k]) * (position - k) + offset[1]
        azimuth = np.mod(phi0, 2 * np.pi) * (n_phi / (2 * np.pi)) + offset[0]
        row, column = azimuth.astype(np.int64), eta.astype(np.int64)
        return (row % n_phi) * n_eta + column, np.stack((azimuth - row, eta - column), axis=1)

    def _score(self, key, inside, layer):
        """Return the score of the cell of every hit (n,), -inf where the cell is no candidate."""
        config = self.config
        cells, cell = np.unique(key, return_inverse=True)
        n_hits = np.bincount(cell)
        n_layers = np.bincount(np.unique(cell * 64 + layer) // 64, minlength=cells.size)
        score = n_layers + config.extra_hit_score * (n_hits - n_layers)
        spread = np.zeros(cells.size)
        for axis in range(2):
            total, squares = (np.bincount(cell, inside[:, axis] ** power) for power in (1, 2))
            spread = spread + (squares - total * total / n_hits)
        score = score - config.spread_penalty * spread
        return np.where((n_layers >= config.min_hits) & (n_hits <= config.max_hits), score, -np.inf)[cell]
