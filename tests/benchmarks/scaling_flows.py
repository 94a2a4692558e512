"""Prefect on PostgreSQL with many flow runs, created by its client."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.states import Completed

from benchmarks import cost
from benchmarks.cost import Cost
from benchmarks.harness import Line
from flows import prefect_server
from pipelines import deployment
from postgres import postgres

DATABASE, FLOW, NAME = "prefect", "facegan-training", "nightly"
AT_ONCE = 8
# The server's loop that plans runs, in a process as the server's own: its import takes seconds.
SCHEDULER = """
import asyncio, time
from prefect.server.services.scheduler import schedule_deployments as loop
async def main():
    await loop()
    began, cpu = time.perf_counter(), time.process_time()
    await loop()
    print(time.process_time() - cpu, time.perf_counter() - began)
asyncio.run(main())
"""


def measure(folder: Path, sizes: tuple[int, ...]) -> Iterator[Line]:
    """Times of the queries of the product, a worker, the pages and the server's own loops."""
    home = folder / "prefect"
    home.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    with postgres() as database:
        database.execute(f"CREATE DATABASE {DATABASE}")
        url = database.url(DATABASE).replace("postgresql:", "postgresql+asyncpg:")
        own = {"PREFECT_HOME": str(home), "PREFECT_SERVER_DATABASE_CONNECTION_URL": url}
        with prefect_server(kept | own, home) as api:
            found, done = asyncio.run(_deploy(api)), 0
            for count in sizes:
                create = partial(_create, api, found, count - done)
                spent = cost.of_call(lambda: asyncio.run(create()), warm=False)  # noqa: B023
                yield cost.of_calls(f"{count - done:,} flow runs created", spent, count - done)
                done = count
                database.execute("ANALYZE", database=DATABASE)
                yield cost.of_size(f"{count:,} flow runs", database.size(DATABASE))
                yield from _ask(api, found, count)
                yield cost.of_calls(f"{count:,} flow runs: scheduler's loop", _schedule(kept | own))


async def _deploy(api: str) -> UUID:
    async with PrefectClient(api) as client:
        flow = await client.create_flow_from_name(FLOW)
        hourly = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 * * * *"), active=True)
        return await client.create_deployment(flow, NAME, schedules=[hourly])


async def _create(api: str, deployment: UUID, count: int) -> None:
    """Runs that have ended, by several requests at a time."""
    async with PrefectClient(api) as client:

        async def some(numbers: range) -> None:
            for _ in numbers:
                await client.create_flow_run_from_deployment(deployment, state=Completed())

        await asyncio.gather(*(some(range(n, count, AT_ONCE)) for n in range(AT_ONCE)))


def _ask(api: str, found: UUID, count: int) -> Iterator[Line]:
    now = datetime.now(UTC)
    week = {"after_": str(now - timedelta(days=7)), "before_": str(now + timedelta(days=1))}
    of_week: dict[str, object] = {"flow_runs": {"expected_start_time": week}}
    history = {
        "history_start": week["after_"], "history_end": week["before_"],
        "history_interval_seconds": 8 * 86400 / 100,
    }  # fmt: skip
    latest, of_nightly = {"sort": "EXPECTED_START_TIME_DESC"}, {"deployment_ids": [str(found)]}
    newest = {"sort": "START_TIME_DESC", "limit": 50}
    with httpx.Client(base_url=api, timeout=120) as http, SyncPrefectClient(api) as client:

        def post(path: str, body: Mapping[str, object]) -> object:
            return http.post(path, json=body).raise_for_status().json()

        nightly = client.read_deployment(found)
        calls: dict[str, Callable[[], object]] = {
            "page: 50 flow runs, the newest": lambda: post("/flow_runs/paginate", of_week | newest),
            "page: how many": lambda: post("/flow_runs/count", of_week),
            "page: points of the chart": lambda: post("/ui/flow_runs/history", of_week | latest),
            "page: history in 100 bars": lambda: post("/flow_runs/history", of_week | history),
            "page: average lateness": lambda: post("/flow_runs/lateness", of_week),
            "page: deployments": lambda: post("/deployments/paginate", {"limit": 50}),
            "runner: due runs": lambda: post("/deployments/get_scheduled_flow_runs", of_nightly),
            "schedule: is a run scheduled": lambda: deployment.is_scheduled(client, nightly),
            "schedule: missed runs": lambda: deployment.skip_missed(client, nightly),
        }
        for name, call in calls.items():
            yield cost.of_calls(f"{count:,} flow runs: {name}", cost.of_call(call))


def _schedule(environment: dict[str, str]) -> Cost:
    command = [sys.executable, "-c", SCHEDULER]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    cpu, wall = map(float, result.stdout.split()[-2:])
    return Cost(cpu, wall)
