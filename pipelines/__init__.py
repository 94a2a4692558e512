"""Prefect flows: the stages of `dvc.yaml` run as tasks, by hand or on a schedule.

Without this package, `dvc repro` does the same work.
"""

import os

# Prefect reads these once, when it is imported; the stages inherit them.
os.environ.setdefault("DO_NOT_TRACK", "1")  # Prefect's client, whatever its server says
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# The first start compiles Prefect and makes its database: 20 seconds are too few for slow machines.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "60")
