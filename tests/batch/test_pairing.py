"""Pairs of days, their baselines and confirmations."""

from __future__ import annotations

import datetime

import pytest

from geocd.batch.pairing import Pairing, paired_days, season_distance
from geocd.errors import ConfigError


def days(*texts: str) -> list[datetime.date]:
    return [datetime.date.fromisoformat(text) for text in texts]


def pairs(texts: list[str], **rule: object) -> list[tuple[str, str]]:
    made = paired_days(days(*texts), Pairing(**rule))  # type: ignore[arg-type]
    return [(str(pair.before), str(pair.after)) for pair in made]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("2023-06-01", "2023-06-11", 10),
        ("2023-06-11", "2023-06-01", 10),
        ("2020-06-01", "2023-06-11", 10),
        ("2023-12-27", "2021-01-06", 10),  # over New Year
        ("2024-02-29", "2023-03-01", 1),
        ("2023-01-01", "2023-07-02", 182),
    ],
)
def test_the_distance_within_the_year(first: str, second: str, expected: int) -> None:
    assert season_distance(*days(first, second)) == expected


YEARS = ["2021-06-10", "2021-08-20", "2022-06-01", "2022-06-20", "2022-12-05", "2023-06-12", "2024-08-25"]


def test_each_date_is_paired_with_the_next_year_s_nearest_of_its_season() -> None:
    assert pairs(YEARS, season_days=30) == [
        ("2021-06-10", "2022-06-01"),  # 9 days away, and the 20th is 10
        ("2021-08-20", "2024-08-25"),  # no August in between
        ("2022-06-01", "2023-06-12"),
        ("2022-06-20", "2023-06-12"),
    ]
    assert pairs(YEARS, season_days=5) == [("2021-06-10", "2023-06-12"), ("2021-08-20", "2024-08-25")]
    assert pairs(["2021-12-30", "2022-01-02", "2023-01-01"], season_days=10) == [
        ("2021-12-30", "2023-01-01"),
        ("2022-01-02", "2023-01-01"),
    ], "the season goes over New Year, and a pair is of two years"
    assert len(pairs(YEARS)) == len(YEARS) - 1, "without a season each with the next"


def test_the_baseline_has_the_seasons_of_both_dates() -> None:
    (pair,) = paired_days(
        days(
            "2020-05-01", "2020-06-03", "2020-09-30", "2021-06-10", "2021-07-20", "2022-06-05", "2022-10-02"
        ),
        Pairing(dates=tuple(days("2022-06-05", "2022-10-02")), baseline_years=2),  # type: ignore[arg-type]
    )
    assert list(map(str, pair.baseline)) == ["2020-06-03", "2020-09-30", "2021-06-10"]
    assert (str(pair.before), str(pair.after)) == ("2022-06-05", "2022-10-02")


def test_a_baseline_ends_before_the_pair_and_stays_in_the_season() -> None:
    texts = ["2019-06-20", "2020-06-01", "2020-07-25", "2021-06-05", "2022-06-10"]
    made = paired_days(days(*texts), Pairing(season_days=15, baseline_years=3))
    by_after = {str(pair.after): list(map(str, pair.baseline)) for pair in made}
    assert by_after["2022-06-10"] == ["2019-06-20", "2020-06-01"], "before itself is no witness"


def test_later_dates_confirm_at_most_six() -> None:
    texts = ["2022-06-05", "2022-06-20"] + [f"2022-{month:02d}-01" for month in range(7, 13)]
    texts += ["2023-01-01", "2023-06-18", "2023-09-01"]
    rule = {"dates": tuple(days("2022-06-05", "2022-06-20"))}
    (pair,) = paired_days(days(*texts), Pairing(**rule, confirm_days=100))  # type: ignore[arg-type]
    assert list(map(str, pair.confirm)) == ["2022-07-01", "2022-08-01", "2022-09-01"]
    (pair,) = paired_days(days(*texts), Pairing(**rule, confirm_days=400))  # type: ignore[arg-type]
    assert len(pair.confirm) == 6
    assert (str(pair.confirm[0]), str(pair.confirm[-1])) == ("2022-07-01", "2023-06-18")
    (pair,) = paired_days(days(*texts), Pairing(**rule, confirm_days=400, season_days=20))  # type: ignore[arg-type]
    assert list(map(str, pair.confirm)) == ["2022-07-01", "2023-06-18"]


def test_rules_that_cannot_work() -> None:
    with pytest.raises(ConfigError, match=r"--season-days 200: must be 0 to 182 days"):
        Pairing(season_days=200)
    with pytest.raises(ConfigError, match=r"--baseline-years -1: must be 0 or more"):
        Pairing(baseline_years=-1)
