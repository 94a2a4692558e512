"""`python -m pipelines.automations`: a real server notifies a real receiver."""

import json
from collections.abc import Iterator

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import TRAIN, Api, Copy, Environment, Flow, run
from servers import wait
from webhooks import Receiver, receiver

pytestmark = pytest.mark.faults
PROMOTION = "2026-11-29 00:28 version 3 over version 2, by a person: fid 40 beats 50"


@pytest.fixture(scope="module")
def told(served: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """A receiver, and the server's block `custom-webhook/alerts` for it."""
    with (
        receiver(tmp_path_factory.mktemp("receiver")) as started,
        temporary_settings({PREFECT_API_URL: served["PREFECT_API_URL"]}),
    ):
        content = {"subject": "{{subject}}", "body": "{{body}}"}
        CustomWebhookNotificationBlock(
            name="x", url=started.url, json_data=content, headers=None, cookies=None
        ).save("alerts")
        yield started


def notifications(told: Receiver) -> dict[str, str]:
    """Subject -> body."""
    lines = told.file.read_text().splitlines()
    bodies = [json.loads(json.loads(line)[1]) for line in lines]
    return {body["subject"]: body["body"] for body in bodies}


def test_people_are_told_of_failures_champions_and_silence(
    told: Receiver, served: Environment, api: Api, copy: Copy
) -> None:
    command = ("custom-webhook/alerts", "--silence", "0.01")
    names = [f"facegan-training: {what}" for what in ("failed run", "new champion")]
    names.append("facegan-training: no completed run")
    for done in ("created", "updated"):
        result = run(served, "pipelines.automations", *command)
        assert result.stdout.splitlines() == [f"{name}: {done}" for name in names], result.stderr
    root = copy(f"{TRAIN} && cat printed")
    (root / "printed").write_text(f"register: promoted: {PROMOTION}\n")
    with Flow(served, root) as flow:
        pass
    assert flow.process.returncode == 0, flow.log
    with Flow(served, copy("echo no space left; exit 1")) as flow:
        pass
    wait(lambda: set(names) <= set(notifications(told)))
    found = notifications(told)
    failed = api.flow_run(flow.log)["name"]
    assert found[names[0]].startswith("Failed: no space left; ")
    assert found[names[0]].endswith(f"\n{failed}")
    assert found[names[1]] == PROMOTION
    assert found[names[2]] == "No run has completed for 0.01 hours."


@pytest.mark.usefixtures("told")
def test_an_unknown_block_is_one_line_with_those_there_are(served: Environment) -> None:
    result = run(served, "pipelines.automations", "slack-webhook/alerts")
    assert result.returncode == 1
    assert result.stderr == (
        "error: notification block slack-webhook/alerts: not found; valid: custom-webhook/alerts\n"
    )


@pytest.mark.parametrize("hours", ["0", "nan", "1e9"])
def test_silence_out_of_bounds_is_one_line(environment: Environment, hours: str) -> None:
    result = run(environment, "pipelines.automations", "a/b", "--silence", hours)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1 and "valid: hours from" in result.stderr


def test_without_a_server_it_says_how_to_start_one(environment: Environment) -> None:
    result = run(environment | {"PREFECT_API_URL": ""}, "pipelines.automations", "a/b")
    assert result.returncode == 1
    assert "prefect server start" in result.stderr
