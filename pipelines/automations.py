"""Have the Prefect server notify people: `python -m pipelines.automations slack-webhook/alerts`.

Of a failed or crashed run, of a new champion, and when no run has completed for a day. The argument
is a notification block, which is made in Prefect's UI. Running it again brings the automations up
to date.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Literal
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from facegan.core.errors import FaceganError
from pipelines.dvc_process import PROMOTION_EVENT
from pipelines.server import START, check_server
from pipelines.training import training

NOTIFY = "notify"  # the capability of notification blocks
# Its page, too, if the server knows its own address (PREFECT_UI_URL).
RUN = "{{ flow_run.name }}{{ ': ' ~ (flow_run|ui_url) if flow_run|ui_url else '' }}"


def automations(flow: str, block: UUID, silence: timedelta) -> list[AutomationCore]:
    """The automations for the runs of a flow.

    Args:
        block: the notification block.
        silence: after which a completed run is missed; Prefect's least is 10 seconds.
    """
    ends = {f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "TimedOut")}
    completed = {"prefect.flow-run.Completed"}
    hours = silence.total_seconds() / 3600
    return [
        _automation(
            f"{flow}: failed run", _trigger(flow, ends, Posture.Reactive), block,
            f"{{{{ flow_run.state.name }}}}: {{{{ flow_run.state.message }}}}\n{RUN}",
        ),
        _automation(
            f"{flow}: new champion", _trigger(flow, {PROMOTION_EVENT}, Posture.Reactive), block,
            "{{ event.payload.promotion }}",
        ),
        _automation(
            f"{flow}: no completed run", _trigger(flow, completed, Posture.Proactive, silence),
            block, f"No run has completed for {hours:g} hours.",
        ),
    ]  # fmt: skip


def _trigger(
    flow: str,
    expect: set[str],
    posture: Literal[Posture.Reactive, Posture.Proactive],
    within: timedelta = timedelta(0),
) -> EventTrigger:
    return EventTrigger(
        expect=expect,
        match_related=ResourceSpecification(
            {"prefect.resource.role": "flow", "prefect.resource.name": flow}
        ),
        posture=posture,
        threshold=1,
        within=within,
    )


def _automation(name: str, trigger: EventTrigger, block: UUID, body: str) -> AutomationCore:
    action = SendNotification(block_document_id=block, subject=name, body=body)
    return AutomationCore(name=name, trigger=trigger, actions=[action])


def find_block(client: SyncPrefectClient, name: str) -> UUID:
    """The notification block TYPE/NAME.

    Raises:
        FaceganError: if there is none of this name.
    """
    found = {}
    for block in client.read_block_documents(include_secrets=False):
        if block.block_schema and NOTIFY in block.block_schema.capabilities and block.block_type:
            found[f"{block.block_type.slug}/{block.name}"] = block.id
    if name not in found:
        valid = (
            ", ".join(sorted(found)) or "none is there; create one in Prefect's UI, under Blocks"
        )
        raise FaceganError(f"notification block {name}: not found; valid: {valid}")
    return found[name]


def set_up(client: SyncPrefectClient, wanted: Sequence[AutomationCore]) -> list[str]:
    """Create or update automations. One that a person has disabled stays so."""
    lines = []
    for automation in wanted:
        existing = client.read_automations_by_name(automation.name)
        if existing:
            enabled = existing[0].enabled
            changed = automation.model_copy(update={"enabled": enabled})
            client.update_automation(existing[0].id, changed)
            lines.append(f"{automation.name}: updated{', disabled' * (not enabled)}")
        else:
            client.create_automation(automation)
            lines.append(f"{automation.name}: created")
    return lines


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipelines.automations", description=__doc__)
    parser.add_argument("block", metavar="TYPE/NAME", help="such as slack-webhook/alerts")
    parser.add_argument(
        "--silence", type=float, default=24, metavar="HOURS",
        help="without a completed run; default: %(default)s",
    )  # fmt: skip
    options = parser.parse_args()
    if not 0.01 <= options.silence <= 10_000:
        parser.exit(2, f"error: --silence {options.silence:g}: valid: hours from 0.01 to 10000\n")
    return options


def main() -> None:
    """Set them up, and print what was done. The exit status is 1 if there is no server or block."""
    options = read_options()
    try:
        check_server(START)
        with get_client(sync_client=True) as client:
            block = find_block(client, options.block)
            silence = timedelta(hours=options.silence)
            for line in set_up(client, automations(training.name, block, silence)):
                print(line)
    except FaceganError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
