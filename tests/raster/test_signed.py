"""Links that are signed when they are read: a server whose links end after a moment."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import write_raster
from expiring import SIGNER, expiring

from geocd.batch.stack import Stack
from geocd.errors import ConfigError, RasterOpenError
from geocd.raster import signed
from geocd.raster.files import open_raster
from geocd.raster.signed import signed_links
from geocd.report.fingerprint import fingerprint


@pytest.fixture
def signer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "lender.py").write_text(SIGNER.format(seconds=0.3))
    monkeypatch.syspath_prepend(tmp_path)
    yield "lender:sign"
    signed.close()


def test_links_are_signed_whenever_something_is_read(tmp_path: Path, signer: str) -> None:
    values = np.random.default_rng(0).integers(0, 4000, (2, 512, 512), np.uint16)
    write_raster(tmp_path / "a.tif", values, tiled=True, blockxsize=128, blockysize=128)
    log = tmp_path / "log"
    with expiring(tmp_path, log) as server, signed_links(signer):
        link = f"{server}/a.tif"
        with open_raster(link) as dataset:
            first = dataset.read(window=((0, 64), (0, 64)))
            time.sleep(0.5)  # the link that the file was opened by has ended
            assert dataset.read(window=((400, 512), (400, 512))).tolist() == values[:, 400:, 400:].tolist()
        assert first.tolist() == values[:, :64, :64].tolist()
        (tmp_path / "sources").mkdir()
        stack = Stack(str(tmp_path / "sources" / "x.vrt"), (("a", link),), "2024-01-01T00:00:00Z")
        stack.write()
        text = Path(stack.path).read_text()
        assert f"/vsicurl/{link}<" in text
        assert "sig=" not in text
        with open_raster(stack.path) as dataset:
            time.sleep(0.4)
            np.testing.assert_array_equal(dataset.read(), values)
        (print_of_link,) = fingerprint(link)
        assert print_of_link.file == link
        assert print_of_link.blocks is not None
        (print_of_stack,) = fingerprint(stack.path)
        assert Path(print_of_stack.file).name == "x.vrt"
        with pytest.raises(RasterOpenError) as refused:
            open_raster(f"{server}/unknown.tif")
        assert re.fullmatch(
            r"http://127\.0\.0\.1:\d+/unknown\.tif: its link cannot be signed \(LookupError: no token for "
            r"http://127\.0\.0\.1:\d+/unknown\.tif\)\. Check --sign\.",
            str(refused.value),
        )
        with pytest.raises(RasterOpenError, match=rf"^{link}x: the server has no such file") as missing:
            open_raster(f"{link}x")
        assert signed._active[-1].secret not in str(missing.value)
    requests = [line.split() for line in log.read_text().splitlines()]
    assert {status for _, _, status, _ in requests} == {"200", "206", "404"}, "no signature had ended"
    assert len({path.partition("?")[2] for _, path, _, _ in requests}) > 4, "each at its moment"
    assert signed.readable(link) == link, "outside of the context links are as they are"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("azure", r"--sign azure: must be planetary-computer or module:function"),
        ("lender:none", r"--sign lender:none: cannot be imported \(AttributeError: .*Workers must find"),
        ("nowhere:sign", r"--sign nowhere:sign: cannot be imported \(ModuleNotFoundError"),
    ],
)
def test_a_signer_that_is_none(name: str, message: str, signer: str) -> None:
    with pytest.raises(ConfigError, match=message), signed_links(name):
        pass
