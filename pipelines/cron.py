"""When a cron expression fires."""

import asyncio
import difflib
import zoneinfo
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import pairwise

from prefect.server.schemas.schedules import CronSchedule
from pydantic import ValidationError

from facegan.core.errors import FaceganError

SHOWN = 3
# Of the files of Linux; Prefect's croniter has other ones, without these.
NOT_ON_THE_SERVER = {"Factory", "localtime", "posixrules"}
MIN_INTERVAL = timedelta(minutes=1)


def next_times(cron: str, timezone: str) -> Sequence[datetime]:
    """Return the next times at which the server starts a run.

    Raises:
        FaceganError: if there are none, or two within a minute, or if the expression or the time
            zone is invalid.
    """
    zones = zoneinfo.available_timezones() - NOT_ON_THE_SERVER
    if timezone not in zones:
        near = difflib.get_close_matches(timezone, zones, 3)
        valid = ", ".join(near or ["UTC", "Europe/Zurich", "America/New_York"])
        raise FaceganError(f"--timezone {timezone!r} is not a time zone; valid: {valid}, ...")
    try:
        schedule = CronSchedule(cron=cron, timezone=timezone)
    except ValidationError as error:
        message = f"--cron {cron!r} is not a cron expression such as '0 2 * * *'"
        raise FaceganError(message) from error
    times = _first_times(schedule)
    if not times:
        raise FaceganError(f"--cron {cron!r} never fires: its dates do not exist or are past")
    if any(later - time < MIN_INTERVAL for time, later in pairwise(times)):
        advice = "five fields fire at most once a minute"
        message = f"--cron {cron!r} fires within seconds: {shown(times)}; {advice}"
        raise FaceganError(message)
    return times


def _first_times(schedule: CronSchedule) -> Sequence[datetime]:
    for count in range(SHOWN, 0, -1):  # a seventh field limits the years
        with suppress(ValueError):  # Prefect's croniter finds no date
            # The server's own reckoning, so that what is shown is what happens.
            return asyncio.run(schedule.get_dates(count))
    return []


def shown(times: Sequence[datetime]) -> str:
    return ", ".join(time.strftime("%a %Y-%m-%d %H:%M:%S %Z") for time in times)
