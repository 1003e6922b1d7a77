"""Dates that the card does not tell how to read."""

from __future__ import annotations

import pytest

from benchbed.errors import DataError


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("2024-05-17", '"%Y-%m-%d"'),
        ("2024-05-17 08:30:12", '"%Y-%m-%d %H:%M:%S"'),
        ("2024-05-17T08:30:12.25", '"%Y-%m-%dT%H:%M:%S.%f"'),
        ("2024-05-17T08:30:12Z", '"%Y-%m-%dT%H:%M:%SZ"'),
        ("2024-05-17 08:30:12+02:00", '"%Y-%m-%d %H:%M:%S%z"'),
        ("17.05.2024", '"%d.%m.%Y"'),
        ("5/17/2024 8:30", '"%m/%d/%Y %H:%M"'),
    ],
)
def test_dates_without_a_format_are_answered_with_the_one_that_reads_them(prepared_log, written, wanted):
    with pytest.raises(DataError) as caught:
        prepared_log([("u", "a", written)])
    assert f"'{written}' is no time in seconds" in str(caught.value)
    assert f"timestamp_format: {wanted}" in str(caught.value)
    assert str(caught.value).count("timestamp_format") == 1
    prepared_log([("u", "a", written)], log={"timestamp_format": wanted.strip('"')})


def test_a_date_of_two_readings_is_not_decided_for_the_user(prepared_log):
    with pytest.raises(DataError, match='timestamp_format: "%d/%m/%Y" or timestamp_format: "%m/%d/%Y"'):
        prepared_log([("u", "a", "03/04/2024")])
    with pytest.raises(DataError, match="in the notation of strptime"):
        prepared_log([("u", "a", "May 17, 2024")])
    with pytest.raises(DataError) as caught:
        prepared_log([("u", "a", "")])
    assert "timestamp_format" not in str(caught.value)
