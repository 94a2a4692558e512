import contextlib
import re
import zoneinfo

import pytest

from facegan.core.errors import FaceganError
from pipelines.cron import next_times, shown


@pytest.mark.parametrize(
    ("cron", "timezone", "message"),
    [
        ("every night", "UTC", "'every night' is not a cron expression such as '0 2 * * *'"),
        ("@reboot", "UTC", "'@reboot' is not a cron expression"),
        ("0 0 30 2 *", "UTC", "'0 0 30 2 *' never fires"),
        ("0 0 31 2,4 *", "UTC", "never fires"),
        ("0 0 1 1 * 0 2020", "UTC", "never fires"),
        ("0 2 * * *", "localtime", "'localtime' is not a time zone; valid: "),
        ("0 2 * * *", "Factory", "'Factory' is not a time zone; valid: "),
        ("0 2 * * *", "Europe/Zurch", "not a time zone; valid: Europe/Zurich, "),
    ],
)
def test_a_schedule_without_a_run_is_refused(cron: str, timezone: str, message: str) -> None:
    with pytest.raises(FaceganError, match=re.escape(message)):
        next_times(cron, timezone)


@pytest.mark.parametrize("cron", ["* * * * * *", "* * * * * */30", "59 23 31 12 * 0,1"])
def test_runs_within_a_minute_are_refused_with_the_next_three_times(cron: str) -> None:
    with pytest.raises(FaceganError, match="fires within seconds") as error:
        next_times(cron, "UTC")
    assert len(re.findall(r"\d\d:\d\d:\d\d UTC", str(error.value))) == 3


def test_times_are_in_the_time_zone_before_and_after_its_clocks_change() -> None:
    winter, summer = next_times("0 2 1 1,7 *", "Europe/Zurich")[:2]
    assert {winter.hour, summer.hour} == {2}
    assert {f"{winter:%Z}", f"{summer:%Z}"} == {"CET", "CEST"}
    assert shown([winter]).endswith(f" 02:00:00 {winter:%Z}")


def test_a_schedule_may_fire_once() -> None:
    assert len(next_times("0 0 1 1 * 0 2050", "UTC")) == 1


def test_each_time_zone_that_is_valid_has_times() -> None:
    """Python's list of zones is another one than that of Prefect's croniter."""
    zones = sorted(zoneinfo.available_timezones())
    unusual = [zone for zone in zones if "/" not in zone]
    for timezone in {*unusual, *zones[::10]}:
        with contextlib.suppress(FaceganError):
            assert next_times("0 2 1 1 *", timezone)
