"""From a file of judged points to the report."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest

from geocd.errors import VerdictError
from geocd.review.areas import estimate


def table(changed: int = 8, missed: int = 1, **columns: list[object]) -> pd.DataFrame:
    """Ten points mapped as changed, of which so many are; twenty of the rest, of which so many changed."""
    verdict = ["yes"] * changed + ["no"] * (10 - changed) + ["yes"] * missed + ["no"] * (20 - missed)
    frame = pd.DataFrame(
        {
            "id": range(1, 31),
            "verdict": verdict,
            "stratum": ["changed"] * 10 + ["unchanged"] * 20,
            "stratum_m2": [1000.0] * 10 + [9000.0] * 20,
            "map_class": ["changed"] * 10 + ["unchanged"] * 20,
        }
    )
    return frame.assign(**columns)


def write(frame: pd.DataFrame, tmp_path: Path) -> Path:
    frame.to_csv(tmp_path / "s.csv", index=False)
    return tmp_path / "s.csv"


def test_areas_and_accuracies(tmp_path: Path) -> None:
    report = estimate(write(table(), tmp_path))
    changed, unchanged = report.classes
    assert (changed.name, unchanged.name) == ("changed", "unchanged")
    assert changed.area.estimate == pytest.approx(800 + 450)
    assert unchanged.area.estimate == pytest.approx(10_000 - 1250)
    assert report.mapped_m2 == {"changed": 1000, "unchanged": 9000}
    assert report.overall.estimate == pytest.approx(0.1 * 0.8 + 0.9 * 0.95)
    assert report.matrix == {
        "changed": {"changed": 8, "unchanged": 2},
        "unchanged": {"changed": 1, "unchanged": 19},
    }
    assert (report.points, report.judged, report.unsure, report.kinds) == (30, 30, 0, ())
    assert any("'unchanged' has 20 judged points" in note for note in report.notes)


def test_what_is_not_judged_or_unsure_is_left_out(tmp_path: Path) -> None:
    frame = table()
    frame.loc[[0, 1], "verdict"] = ["unsure", "unsure"]
    frame.loc[[29], "verdict"] = None
    report = estimate(write(frame, tmp_path))
    assert (report.points, report.judged, report.unsure) == (30, 27, 2)
    assert report.classes[0].area.estimate == pytest.approx(1000 * 6 / 8 + 9000 / 19)
    assert any("2 of 29 points are unsure" in note for note in report.notes)


def test_a_file_of_verdicts(tmp_path: Path) -> None:
    path = write(table().assign(verdict=None), tmp_path)
    table()[["id", "verdict"]].to_csv(tmp_path / "v.csv", index=False)
    assert estimate(path, verdicts=tmp_path / "v.csv") == estimate(write(table(), tmp_path))


def test_areas_by_kind(tmp_path: Path) -> None:
    of_map = ["water_gain"] * 5 + ["burnt"] * 5 + [None] * 20
    own = [None, "burnt"] + [None] * 28
    report = estimate(write(table(map_kind=of_map, kind=own), tmp_path))
    areas = {entry.name: entry.area.estimate for entry in report.kinds}
    assert areas == pytest.approx({"water_gain": 400, "burnt": 400, "kind not judged": 450})
    assert sum(areas.values()) == pytest.approx(report.classes[0].area.estimate)
    water, burnt = report.kinds[:2]
    assert water.users.estimate == pytest.approx(0.8)
    assert burnt.users.estimate == pytest.approx(0.6)
    assert burnt.producers.estimate == pytest.approx(3 / 4)
    assert "Fill in the column kind" in report.notes[-1]


def test_classes_of_any_other_map(tmp_path: Path) -> None:
    """The example of Olofsson et al., as a file."""
    names, counts = ["a", "b", "c", "d"], [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
    pixels = dict(zip(names, (200_000, 150_000, 3_200_000, 6_450_000), strict=True))
    rows = [
        (mapped, 900 * pixels[mapped], mapped, reference)
        for mapped, row in zip(names, counts, strict=True)
        for reference, count in zip(names, row, strict=True)
        for _ in range(count)
    ]
    frame = pd.DataFrame(rows, columns=["stratum", "stratum_m2", "map_class", "reference"])
    report = estimate(write(frame, tmp_path), interval="wald")
    assert [entry.name for entry in report.classes] == names
    assert round(report.classes[0].area.estimate / 1e4) == 21_158
    assert report.classes[0].area.high / 1e4 == pytest.approx(21_158 + 6_158, abs=1)


def test_the_report_as_text_for_programs(tmp_path: Path) -> None:
    report = estimate(write(table(changed=10, missed=0), tmp_path))
    values = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert values["classes"][0]["area_m2"]["estimate"] == 1000
    assert values["overall_accuracy"]["low"] < 1
    rows = list(csv.DictReader(io.StringIO(report.as_csv())))
    assert [row["measure"] for row in rows].count("area") == 2
    assert float(rows[0]["estimate"]) == 1000
    assert report.classes[0].area.high > 1000, "no error was seen, and there may be some"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": ["yes"] + [None] * 29}, r"1 of the 10 points of the stratum 'changed' are judged"),
        ({"stratum_m2": [1000.0] * 9 + [999.0] + [9000.0] * 20}, r"stratum_m2 in row 10 is '999.0'"),
        ({"stratum_m2": ["?"] * 30}, r"stratum_m2 in row 1 is '\?'"),
        ({"verdict": ["oui"] * 30}, r"row 1 is 'oui'"),
    ],
)
def test_what_cannot_be_estimated_says_why(
    change: dict[str, list[object]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(VerdictError, match=message):
        estimate(write(table(**change), tmp_path))


def test_files_that_are_no_sample(tmp_path: Path) -> None:
    with pytest.raises(VerdictError, match="has no column stratum"):
        estimate(write(pd.DataFrame({"id": [1], "verdict": ["yes"]}), tmp_path))
    with pytest.raises(VerdictError, match="has no points"):
        estimate(write(table().head(0), tmp_path))
