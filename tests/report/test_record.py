"""The record of a run, and the versions of software in it."""

from __future__ import annotations

import subprocess
import sys

import jsonschema
import pytest
from conftest import run_record

from geocd.report.record import versions


def test_a_summary_answers_by_key_as_in_version_0_1():
    summary = run_record().summary
    assert summary["n_polygons"] == summary.n_polygons
    assert summary["shift"]["measurable"] is True
    with pytest.raises(KeyError):
        summary["area"]


def test_versions_without_importing_torch(tmp_path):
    found = versions()
    assert {"geocd", "python", "torch", "rasterio", "GDAL", "PROJ", "numpy", "scipy", "shapely"} <= set(found)
    jsonschema.validate(found, {"type": "object", "additionalProperties": {"type": "string"}})

    found.clear()
    assert versions(), "the caller's copy"
    code = "import sys, geocd.report; geocd.report.versions(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
