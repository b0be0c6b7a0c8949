"""Findings: their severities and words, and that each of them arrives everywhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from commands import run
from conftest import ground, load_plugin, moved, write_csv, write_raster
from scipy import ndimage

import geocd
from geocd import findings as module
from geocd import pipeline
from geocd.check import check_pair
from geocd.cli import main
from geocd.config import Settings
from geocd.errors import GeocdWarning, SameImageError
from geocd.findings import Finding, OtherDate, of_other_dates

DATES = ({"ACQUISITIONDATETIME": "2020-06-01T10:00:00Z"}, {"ACQUISITIONDATETIME": "2023-06-01T10:00:00Z"})


def odd_pair(code: str, folder: Path) -> tuple[Path, Path]:
    """Write a pair that is odd in one way."""
    before, tags = ground(0), DATES
    after = before + np.random.default_rng(1).normal(0, 1, before.shape)
    if code == "unrelated":
        rng = np.random.default_rng(0)
        before, after = (ndimage.gaussian_filter(rng.normal(size=(1, 256, 256)), (0, 3, 3)) for _ in "ab")
    elif code == "dates_reversed":
        tags = (DATES[1], DATES[0])
    elif code == "shift":
        after = moved(after, 0, 0.7)
    elif code == "light":
        after = 1.6 * after + 40
    return (
        write_raster(folder / "b.tif", before.astype(np.float32), tags=tags[0]),
        write_raster(folder / "a.tif", after.astype(np.float32), tags=tags[1]),
    )


class Feedback:
    """The log of QGIS."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def isCanceled(self) -> bool:  # noqa: N802
        return False

    def pushInfo(self, text: str) -> None:  # noqa: N802
        self.lines.append(("info", text))

    def pushWarning(self, text: str) -> None:  # noqa: N802
        self.lines.append(("warning", text))


@pytest.mark.parametrize(
    ("code", "severity", "words", "verdict"),
    [
        ("unrelated", "error", "little in common", "not fit"),
        ("dates_reversed", "warning", "before (2023-06-01) was taken later than after", "fit with care"),
        ("shift", "warning", "shifted against each other by 0.7 pixels", "fit with care"),
        ("light", "info", "differ in illumination or scale: about after = 1.", "fit"),
    ],
)
def test_a_finding_arrives_everywhere(
    code: str, severity: str, words: str, verdict: str, tmp_path: Path
) -> None:
    before, after = odd_pair(code, tmp_path)
    label = "note" if severity == "info" else severity

    # check
    report = check_pair(before, after)
    assert [finding.severity for finding in report.findings if finding.code == code] == [severity]
    assert report.verdict == verdict
    content = json.loads(run("check", before, after, "--json").stdout)
    assert content["verdict"] == verdict
    assert code in [finding["code"] for finding in content["findings"]]
    checked = run("check", before, after)
    assert re.search(f"^{label} +.*{re.escape(words)}", checked.output, re.MULTILINE)
    assert f", {'not ' * (verdict == 'not fit')}fit" in checked.output.splitlines()[-1]
    assert checked.exit_code == 0, "detect would not refuse it"

    # console, item, report
    options = ("--method", "cva")
    done = run("detect", before, after, "-o", tmp_path / "run", *options)
    assert done.exit_code == 0
    assert re.search(f"^{label}: .*{re.escape(words)}", done.stderr, re.MULTILINE)
    assert run("-q", "detect", before, after, "-o", tmp_path / "quiet", *options).output == ""
    item = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    (entry,) = (entry for entry in item["properties"]["geocd:findings"] if entry["code"] == code)
    assert entry.keys() == {"code", "severity", "text", "remedy"}
    assert entry["severity"] == severity
    assert words in entry["text"]
    page = (tmp_path / "run_report.html").read_text(encoding="utf-8")
    assert words in re.sub(r"</?(?:time|code)>", "", page)  # which keep dates and options on one line

    # QGIS: what its log gets of what geocd printed
    feedback = Feedback()
    load_plugin("process").push_messages(done.stderr, feedback)
    pushed = [kind for kind, line in feedback.lines if words in line]
    assert pushed == ["info" if severity == "info" else "warning"]

    # Python
    with pytest.warns(GeocdWarning, match=re.escape(words)) as caught:
        geocd.detect(before, after, method="cva")
    assert {warning.filename for warning in caught} == {__file__}
    settings = Settings.from_flat({"method": "cva"})
    with pytest.warns(GeocdWarning, match=re.escape(words)) as caught:
        _, record = pipeline.detect(before, after, tmp_path / "api", settings=settings)
    assert {warning.filename for warning in caught} == {__file__}
    assert code in [finding.code for finding in record.findings]


def test_findings_of_a_batch(tmp_path: Path) -> None:
    rows = []
    for code in ("unrelated", "dates_reversed", "shift", "light"):
        (tmp_path / code).mkdir()
        before, after = odd_pair(code, tmp_path / code)
        rows.append({"id": code, "before": str(before), "after": str(after)})
    out = tmp_path / "out"
    done = run("batch", write_csv(tmp_path / "pairs.csv", rows), out, "--method", "cva", "--workers", 1)
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    records = {line["id"]: line for line in lines if line.get("state") == "done"}
    status = run("batch", "--status", out).stdout
    for code, words in (
        ("unrelated", "error: The two images have little in common"),
        ("dates_reversed", "warning: before (2023-06-01) was taken later"),
        ("shift", "warning: The two images are shifted"),
        ("light", "note: The two images differ in illumination"),
    ):
        assert code in [finding["code"] for finding in records[code]["findings"]]
        assert words in status


def test_a_verdict_follows_from_the_severities() -> None:
    info, warning, error = (Finding("x", severity, "Text.") for severity in ("info", "warning", "error"))
    assert module.verdict([]) == module.verdict([info]) == "fit"
    assert module.verdict([info, warning]) == "fit with care"
    assert module.verdict([warning, error]) == "not fit"


@pytest.mark.parametrize(
    "content",
    [None, 3, [], {}, {"code": "x", "severity": "grave", "text": "", "remedy": ""},
     {"code": 3, "severity": "info", "text": "", "remedy": ""}],
)  # fmt: skip
def test_only_findings_are_read(content: Any) -> None:
    assert Finding.from_json(content) is None


def test_a_finding_survives_json() -> None:
    finding = Finding("x", "warning", "Text.", "Remedy.")
    assert Finding.from_json(json.loads(json.dumps(finding.as_dict()))) == finding
    assert str(finding) == "Text. Remedy."


def test_what_the_caller_chose_is_no_python_warning() -> None:
    module.warn([Finding("classical_method", "info", "Text.")])
    with pytest.warns(GeocdWarning, match=r"^Text\.$"):
        module.warn([Finding("ignored", "warning", "Text.")])


def test_many_zeros_are_worth_a_word() -> None:
    assert not list(module.of_zeros("before", 0.01))
    (finding,) = module.of_zeros("before.tif", 0.254)
    assert finding.text == "before.tif: 25% of the pixels that count as valid are 0 in all bands."
    assert finding.remedy.startswith("If 0 means 'no data', pass --nodata 0.")
    assert not list(module.of_zeros("after", float("nan")))


def test_an_undeclared_rim_is_said_with_its_remedies() -> None:
    (finding,) = module.of_rim("b.tif", "-0.2", 0.24, inside=0.1, blurred=True)
    assert finding.code == "undeclared_rim"
    assert finding.severity == "warning"
    assert finding.text.startswith(
        "b.tif: about 24.0 % of the pixels, in a rim at the border, are -0.2 in all"
    )
    assert "inside the image (10.0 % of them)" in finding.text
    assert "mixed with the rim" in finding.text
    assert "--nodata -0.2 declares it; --nodata none" in finding.remedy
    (finding,) = module.of_rim("b.tif", "-0.2, 149", 0.24)
    assert "--nodata -0.2" not in finding.remedy
    (finding,) = module.of_rim("b.tif", "255", 0.24, excluded=False)
    assert finding.code == "constant_rim"
    assert "taken as values" in finding.text
    assert finding.remedy == "If 255 means 'no data', pass --nodata 255."


def test_how_bands_were_matched_is_a_finding_in_all_places(tmp_path: Path) -> None:
    image = ground(0, 64, 64)[:3].astype(np.float32)
    after = np.concatenate([image[::-1] * 1.1, image[:1]])
    (tmp_path / "in").mkdir()
    pair = [
        write_raster(tmp_path / "in" / "b.tif", image, names=("blue", "green", "red")),
        write_raster(tmp_path / "in" / "a.tif", after, names=("red", "green", "blue", "coastal")),
    ]
    text = (
        "Bands are matched by name, numbers in b.tif and a.tif: blue (1 and 3), green (2 and 2), red (3 and "
        "1). Not compared, as only a.tif has them: coastal."
    )
    finding = Finding("bands", "info", text)
    assert check_pair(*pair).findings.count(finding) == 1
    done = CliRunner().invoke(main, ["detect", *map(str, pair), "-o", str(tmp_path / "x"), "--method", "cva"])
    assert done.exit_code == 0, done.output
    assert done.stderr.count(f"note: {text}") == 1
    assert "WARNING" not in done.stderr
    item = json.loads((tmp_path / "x.json").read_text())
    assert item["properties"]["geocd:findings"].count(finding.as_dict()) == 1
    assert str(tmp_path) not in str(item["properties"]["geocd:findings"])
    assert text in (tmp_path / "x_report.html").read_text()
    with pytest.warns(GeocdWarning, match="matched by name"):
        geocd.detect(*pair, method="cva")


@pytest.mark.parametrize("case", ["same path", "link", "copy", "another name"])
def test_the_same_image_twice_is_refused(case: str, tmp_path: Path) -> None:
    before = write_raster(tmp_path / "b.tif", ground(0).astype(np.float32))
    after = before if case == "same path" else tmp_path / "a.tif"
    if case == "link":
        after.symlink_to(before)
    elif case == "copy":
        write_raster(after, ground(0).astype(np.float32), compress="deflate")
    elif case == "another name":
        after = tmp_path / ".." / tmp_path.name / "b.tif"
    out = tmp_path / "out"
    out.mkdir()
    done = CliRunner().invoke(main, ["detect", str(before), str(after), "-o", str(out / "x")])
    assert done.exit_code == 1
    assert str(before) in done.stderr
    assert "Name an image of another date." in done.stderr
    assert not list(out.iterdir())
    checked = run("check", before, after)
    assert checked.exit_code == 1
    assert checked.output.splitlines()[-1].startswith("usable       no: ")
    assert [
        finding.code for finding in check_pair(before, after).findings if finding.severity == "error"
    ] == ["same_image"]
    with pytest.raises(SameImageError):
        geocd.detect(before, after)
    command = load_plugin("command")
    if case == "copy":
        command.refuse_same({"BEFORE": str(before), "AFTER": str(after)})  # would have to read it
    else:
        with pytest.raises(load_plugin("process").PluginError, match="same image"):
            command.refuse_same({"BEFORE": str(before), "AFTER": str(after)})


def test_small_or_constant_images_may_be_equal(tmp_path: Path) -> None:
    for name, image in (("small", ground(0)[:, :20, :20]), ("constant", np.full((1, 64, 64), 7.0))):
        paths = [
            write_raster(tmp_path / f"{name}{which}.tif", image.astype(np.float32)) for which in ("b", "a")
        ]
        assert check_pair(*paths).usable


def test_other_dates_must_lie_on_their_side_of_the_pair() -> None:
    others = [
        OtherDate("--baseline", "a.tif", "2019-05-01T00:00:00Z", 1.0),
        OtherDate("--baseline", "b.tif", "2020-05-01T10:00:00Z", 0.5),
        OtherDate("--baseline", "c.tif", None, 0.0),
        OtherDate("--confirm", "d.tif", "2021-05-01T00:00:00Z", 1.0),
        OtherDate("--confirm", "e.tif", "2022-05-01T00:00:00Z", 1.0),
    ]
    odd = list(of_other_dates("2020-05-01T00:00:00Z", "2021-05-01T00:00:00Z", others))
    assert [(finding.code, finding.severity) for finding in odd] == [
        ("baseline_not_earlier", "warning"),
        ("other_date_unused", "warning"),
        ("confirm_not_later", "warning"),
        ("other_dates", "info"),
    ]
    assert "b.tif (2020-05-01)" in odd[0].text
    assert "--baseline a.tif (2019-05-01, valid on 100%); --baseline b.tif" in odd[-1].text
    assert "c.tif (valid on 0%)" in odd[-1].text
    assert not list(of_other_dates(None, None, []))
