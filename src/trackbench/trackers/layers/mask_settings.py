"""Settings of the surface clusterers when their clusters are attention masks: larger sets than tracks are."""

# Settings near the talk's table, chosen among about 310 on one simulated event with sigma_z = 5.9 mm. DBSCAN's
# barrel eps was 3 mm there; on events with more barrel hits that joins most of them (attention 0.2-0.34 with
# 24,700-32,200 hits), hence less here.
MASK_SETTINGS: dict[str, dict] = {
    "dbscan": {
        "barrel_eps": 2.25,
        "barrel_w_scale": 3.0,
        "endcap_eps": 1.5,
        "endcap_radial_scale": 0.33,
        "min_samples": 3,
    },
    "iterative_window": {
        "barrel_window_u": 8.0,
        "barrel_window_w": 40.0,
        "barrel_cell_u": 2.0,
        "barrel_cell_w": 10.0,
        "barrel_margin_u": 2.0,
        "barrel_margin_w": 10.0,
        "endcap_window": 4.0,
        "endcap_cell": 0.5,
        "endcap_margin": 0.5,
        "min_hits": 3,
    },
    "density_peaks": {
        "barrel_d_c": 3.0,
        "barrel_delta": 8.0,
        "barrel_w_scale": 3.0,
        "endcap_d_c": 0.7,
        "endcap_delta": 1.5,
        "endcap_radial_scale": 1.0,
        "min_density": 1,
    },
    "grid_window": {
        "barrel_window_u": 16.0,
        "barrel_window_w": 48.0,
        "endcap_window": 5.0,
        "stride": 1.0,
        "min_hits": 3,
    },
}
