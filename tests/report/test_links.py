"""Links to the inputs."""

from __future__ import annotations

import pytest

from geocd.report.links import source_href


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("s3://bucket/a.tif", "s3://bucket/a.tif"),
        ("/vsizip/a.zip/a.tif", "/vsizip/a.zip/a.tif"),
        ("https://host/a.tif?version=2", "https://host/a.tif?version=2"),
        ("https://user:secret@host:80/a.tif", "https://host:80/a.tif"),
        ("https://host/a.tif?se=1&sig=abc%3D", "https://host/a.tif"),
        ("https://host/a.tif?X-Amz-Signature=abc", "https://host/a.tif"),
        ('NETCDF:"a.nc":b', 'NETCDF:"a.nc":b'),
    ],
)
def test_inputs_that_are_not_local_stay_but_for_secrets(tmp_path, path, expected):
    assert source_href(path, tmp_path) == expected


def test_input_beside_the_item(tmp_path):
    (tmp_path / "ä#.tif").touch()
    assert source_href(str(tmp_path / "ä#.tif"), tmp_path) == "./ä%23.tif"
