"""Rows of ckf in the workflow: planned like those of other trackers, but for tiled events."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]


def test_rows_of_ckf_are_planned_without_tiled_events(tmp_path):
    config = yaml.safe_load((ROOT / "config/smoke.yaml").read_text(encoding="utf-8"))
    config["trackers"] |= {"ckf": {}, "ckf_seeds": {"tracker": "ckf", "stop_after": "seeding"}}
    config["effects"]["trackers"] = ["ckf"]
    assert config["scan"]["tiling"], "or the figure of tiled events is not asked for"
    (tmp_path / "rows.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "config").symlink_to(ROOT / "config")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", "--quiet", "host"]
    where = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path), "--configfile", "rows.yaml"]
    done = subprocess.run([*command, *where], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    planned = set(re.findall(r"/tracks/(\w+/\w+)[-.]", done.stdout + done.stderr))
    assert {"main/ckf", "main/ckf_seeds", "scan/ckf", "main/dbscan", "effects/ckf", "tiled/dbscan"} <= planned
    assert not {"tiled/ckf", "tiled/ckf_seeds"} & planned
