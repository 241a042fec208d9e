"""Guard of the geometry: the detector of the installed pyacts is the one of TrackML, module by module.

Compared with ``module_positions``, which does not need pyacts, and where the real sample is present that one with the
published table.
"""

import re
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from module_positions import module_positions

from trackbench.errors import InputError
from trackbench.geometry import acts_detector
from trackbench.geometry.acts_detector import PYACTS
from trackbench.geometry.detector import N_MODULES

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT.parent / "shared/data/trackml-sample/detectors.csv.gz"
IDS, CENTRE, SIZE = ["volume_id", "layer_id", "module_id"], ["cx", "cy", "cz"], ["module_minhu", "module_maxhu"]
LIMIT = 0.010  # [mm]
WHAT_TO_DO = (
    f"trackbench is made for pyacts {PYACTS}: install that one. To move to another version on purpose, first find out"
    " what ACTS changed and whether simulated events and the Kalman filter still describe TrackML"
)


def installed():
    acts = pytest.importorskip("acts", reason="neither the extra 'ckf' nor 'simulate' is installed")
    return ".".join(map(str, acts.__version__))


def complaint(table, version):
    """What is wrong with a table of modules as one message, "" if nothing."""
    ids, centre, size = module_positions()
    start = f"the detector of pyacts {version} is not that of TrackML (pyacts {PYACTS}): "
    if len(table) != len(ids):
        return f"{start}{len(table):,} modules, expected {len(ids):,}. {WHAT_TO_DO}."
    table = table.sort_values(IDS)
    renamed = (table[IDS].to_numpy() != ids).any(axis=1)
    if renamed.any():
        first = "/".join(map(str, ids[renamed][0]))
        return f"{start}{renamed.sum():,} modules of {len(ids):,} are named otherwise, first {first}. {WHAT_TO_DO}."
    moved = np.linalg.norm(table[CENTRE].to_numpy() - centre, axis=1)
    if moved.max() >= LIMIT:
        worst = moved.argmax()
        what = f"{np.count_nonzero(moved >= LIMIT):,} modules of {len(ids):,} moved by {1000 * LIMIT:.0f} um or more"
        where = f"most volume/layer/module {'/'.join(map(str, ids[worst]))}, by {1000 * moved[worst]:.0f} um"
        return f"{start}{what}, {where}. {WHAT_TO_DO}."
    if not np.allclose(table[[*SIZE, "module_hv"]].to_numpy(), size, atol=LIMIT):
        return f"{start}modules have other sizes. {WHAT_TO_DO}."
    return ""


def test_every_module_of_acts_is_where_trackml_has_it():
    version = installed()
    message = complaint(acts_detector.build_detectors(), version)
    assert not message, message


def test_the_pinned_version_is_the_one_tested():
    version = installed()
    assert version == PYACTS, f"pyacts {version} is installed, expected {PYACTS}. {WHAT_TO_DO}."


def test_extras_and_environments_name_the_same_version():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in ("simulate", "ckf"):
        assert f"pyacts=={PYACTS}" in extras[extra], extra
    named = {path.name for path in (ROOT / "envs").glob("*.yaml") if f"pyacts=={PYACTS}" in path.read_text()}
    assert named == {"acts.yaml", "simulate.yaml"}


@pytest.mark.data
@pytest.mark.skipif(not PUBLISHED.exists(), reason="no real TrackML sample beside the repository")
def test_the_reference_is_the_published_table():
    published = pd.read_csv(PUBLISHED)
    assert complaint(published, "published") == ""


def reference_table():
    ids, centre, size = module_positions()
    return pd.DataFrame(np.column_stack([ids, centre, size]), columns=[*IDS, *CENTRE, *SIZE, "module_hv"]).astype(
        dict.fromkeys(IDS, int)
    )


def test_reference_by_hand():
    """Two modules from the published table, rounded to um, so that the reference is not only compared to ACTS."""
    table = reference_table()
    assert len(table) == N_MODULES == 18728
    table = table.set_index(IDS)
    assert table.loc[(8, 2, 1), CENTRE].tolist() == pytest.approx([-31.6303, -6.29166, -455.0], abs=1e-3)
    assert table.loc[(7, 14, 2), CENTRE].tolist() == pytest.approx([-139.851, -6.46566, -602.0], abs=1e-3)


def shift(table):
    table.loc[4321, "cz"] += 0.0123
    return table, "1 modules of 18,728 moved by 10 um or more, most volume/layer/module 12/4/148, by 12 um"


def shift_all(table):
    table["cx"] += 1.0
    return table, "18,728 modules of 18,728 moved by 10 um or more, most volume/layer/module "


def lose(table):
    return table.drop(index=[5, 6, 7]), "18,725 modules, expected 18,728"


def rename(table):
    table.loc[0, "module_id"] = 200
    return table, "modules of 18,728 are named otherwise, first 7/2/1"


def resize(table):
    table.loc[9, "module_hv"] = 30.0
    return table, "modules have other sizes"


@pytest.mark.parametrize("change", [shift, shift_all, lose, rename, resize])
def test_another_geometry_is_told_in_a_readable_message(change):
    table = reference_table()
    assert complaint(table, "49.0.0") == ""
    changed, expected = change(table)
    message = complaint(changed, "49.0.0")
    assert message.startswith("the detector of pyacts 49.0.0 is not that of TrackML (pyacts 48.1.0): ")
    assert expected in message, message
    assert message.endswith(f"{WHAT_TO_DO}.")


@pytest.fixture
def new_detector(monkeypatch):
    """Build the detector anew in the test, from a surface table that is changed first."""
    installed()
    original = acts_detector._surface_table
    build = acts_detector.build_detector.__wrapped__

    def detector(change):
        def changed(*arguments):
            return change(original(*arguments))

        monkeypatch.setattr(acts_detector, "_surface_table", changed)
        monkeypatch.setattr(acts_detector, "build_detector", build)
        return acts_detector.build_detectors()

    return detector


def test_a_surface_that_acts_moves_is_noticed(new_detector):
    def move(table):
        row = table.index[(table["volume_id"] == 17) & (table["layer_id"] == 4)][100]
        table.loc[row, "cy"] -= 0.5
        return table

    message = complaint(new_detector(move), "48.1.0")
    assert re.search(r": 1 modules of 18,728 moved .* volume/layer/module 17/4/\d+, by 500 um\.", message), message


def test_another_number_of_surfaces_is_refused_at_run_time(new_detector):
    with pytest.raises(InputError) as refused:
        new_detector(lambda table: table.drop(index=table.index[[0, 1]]))
    assert re.fullmatch(
        r"pyacts [\d.]+: its detector has 18,726 modules, with other numbers than TrackML in 1 layers, expected the"
        r" 18,728 modules of pyacts 48\.1\.0; run pip install pyacts==48\.1\.0\.",
        str(refused.value),
    )
