"""Prefect flows: run the stages of `dvc.yaml` as tasks, manually or on a schedule.

The package is optional: `dvc repro` does the same work.
"""

import os
import sys
from urllib.parse import urlsplit

from facegan.core.addresses import public

# Prefect reads these once, when it is imported. The stages inherit them.
os.environ.setdefault("DO_NOT_TRACK", "1")  # Prefect's client, regardless of its server
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# For the automation that marks runs of a dead process as crashed; pipelines/server.py.
os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")

_url = os.environ.get("PREFECT_API_URL", "")
try:
    urlsplit(_url)
except ValueError as error:  # of which the import of Prefect would make a traceback
    advice = "correct it, or unset PREFECT_API_URL for a temporary one"
    sys.exit(f"error: no Prefect server at {public(_url)} ({error}); {advice}")
