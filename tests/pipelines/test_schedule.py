"""`python -m pipelines.schedule`, with real processes and a real server."""

import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import WAITING, Api, Copy, Environment, flow_runs, prefect_server, ran, run, serving
from pipelines import server
from pipelines.training import training
from servers import wait

pytestmark = pytest.mark.e2e

YEARLY = "0 0 1 1 *"


@pytest.fixture(scope="module")
def scheduled(served: Environment, copy: Copy) -> Iterator[tuple[Path, Path]]:
    """A repository whose first scheduled run starts while other tests run, and its log."""
    root = copy()
    with serving(served, root, "--cron", "* * * * *") as log:
        yield root, log


def test_a_bad_schedule_is_one_line(environment: Environment) -> None:
    result = run(environment, "pipelines.schedule", "--cron", "every night")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "'every night' is not a cron expression" in result.stderr


@pytest.mark.parametrize("seconds", ["0", "-1", "86401", "99999999999999999999"])
def test_an_impossible_interval_is_one_line(environment: Environment, seconds: str) -> None:
    arguments = ("--cron", "0 2 * * *", "--on-new-photographs", seconds)
    result = run(environment, "pipelines.schedule", *arguments)
    assert result.returncode == 2
    message = f"error: --on-new-photographs {seconds}: valid: 1 to 86400 seconds\n"
    assert result.stderr == message


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:9/api"])  # port 9: nothing listens
def test_schedule_without_a_server_says_how_to_start_one(
    environment: Environment, url: str
) -> None:
    result = run(
        environment | {"PREFECT_API_URL": url}, "pipelines.schedule", "--cron", "0 2 * * *"
    )
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "prefect server start" in result.stderr
    assert "PREFECT_API_URL" in result.stderr


def test_a_scheduled_run_starts_and_completes(scheduled: tuple[Path, Path]) -> None:
    root, log = scheduled
    wait(lambda: "Finished in state Completed()\n" in flow_runs(log))
    assert ran(root)[:4] == ["preprocess", "train", "evaluate", "register"]
    assert "has scheduled no run" not in log.read_text()


@pytest.mark.faults
def test_clones_on_one_server_have_schedules_of_their_own(
    scheduled: tuple[Path, Path], served: Environment, api: Api, copy: Copy
) -> None:
    root = copy()
    with serving(served, root, "--cron", YEARLY, "--timezone", "Europe/Zurich", "--paused") as log:
        wait(lambda: {tag(scheduled[0]), tag(root)} <= api.deployments().keys())
        first, second = (api.deployments()[tag(folder)] for folder in (scheduled[0], root))
        assert first["name"] != second["name"]
        assert first["name"] in scheduled[1].read_text()
        assert (first["paused"], second["paused"]) == (False, True)
        assert "01-01 00:00:00 CET" in log.read_text()
        refused = run(served, "pipelines.schedule", "--cron", YEARLY, "--name", second["name"])
    assert refused.returncode == 1
    assert f"{second['name']} is the schedule of {tag(root)}; choose another name" in refused.stderr
    assert not api.deployments()[tag(scheduled[0])]["paused"]


@pytest.mark.faults
def test_of_missed_runs_the_last_is_made_up_for_and_cancelling_it_ends_its_stage(
    served: Environment, api: Api, copy: Copy
) -> None:
    root = copy(WAITING)
    options = ("--cron", YEARLY, "--name", "yearly")
    with serving(served, root, *options):
        wait(lambda: tag(root) in api.deployments())
    deployment = api.deployments()[tag(root)]["id"]
    # As the server's scheduler does, whether or not anything runs them.
    times = {"start_time": "2020-06-01T00:00:00Z", "end_time": "2023-06-01T00:00:00Z"}
    api.post(f"deployments/{deployment}/schedule", **times)

    def states() -> dict[str, str]:
        runs = api.post("flow_runs/filter", deployments={"id": {"any_": [deployment]}})
        return {run["expected_start_time"][:4]: run["state"]["name"] for run in runs}

    with serving(served, root, *options):
        wait((root / "started").exists)
        years = ("2021", "2022", "2023")
        assert [states()[year] for year in years] == ["Skipped", "Skipped", "Running"]
        (run,) = api.post("flow_runs/filter", flow_runs={"state": {"name": {"any_": ["Running"]}}})
        api.post(f"flow_runs/{run['id']}/set_state", state={"type": "CANCELLING"})
        wait((root / "saved").exists, 15)
        wait(lambda: states()["2023"] == "Cancelled")
    assert ran(root) == ["preprocess"]


@pytest.mark.faults
def test_a_run_without_a_heartbeat_becomes_crashed(
    api: Api, served: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SILENCE", 10)
    with (
        temporary_settings({PREFECT_API_URL: served["PREFECT_API_URL"]}),
        get_client(sync_client=True) as client,
    ):
        client.create_automation(server.crash_zombies("soon", training.name))
    flow = api.post("flows/", name=training.name)["id"]
    run = api.post("flow_runs/", flow_id=flow, state={"type": "RUNNING"})["id"]
    event = {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": "prefect.flow-run.heartbeat",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "related": [
            {
                "prefect.resource.id": f"prefect.flow.{flow}",
                "prefect.resource.role": "flow",
                "prefect.resource.name": training.name,
            }
        ],
    }
    api.client.post("events", json=[event]).raise_for_status()
    wait(lambda: api.get(f"flow_runs/{run}")["state"]["type"] == "CRASHED", 60)


def tag(root: Path) -> str:
    return f"{platform.node()}:{root}"


@pytest.mark.faults
def test_schedule_reports_a_server_that_schedules_nothing(
    environment: Environment, copy: Copy, tmp_path: Path
) -> None:
    off = {"PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false"}
    alone = environment | {"PREFECT_HOME": str(tmp_path / "home")}  # a separate database
    with (
        prefect_server(alone | off, tmp_path) as broken,
        serving(alone | {"PREFECT_API_URL": broken}, copy(), "--cron", "* * * * *") as log,
    ):
        wait(lambda: "has scheduled no run of facegan-training/repository-" in log.read_text())
