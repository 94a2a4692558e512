"""Prefect flows: run the stages of `dvc.yaml` as tasks, manually or on a schedule.

The package is optional: `dvc repro` does the same work.
"""

import os

# Prefect reads these once, when it is imported. The stages inherit them.
os.environ.setdefault("DO_NOT_TRACK", "1")  # Prefect's client, regardless of its server
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# The first start compiles Prefect and creates its database: slow machines need more than the
# default of 20 seconds.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "60")
