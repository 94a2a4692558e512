"""The MLflow run of a training that is going on."""

from collections.abc import Callable
from pathlib import Path

from mlflow import MlflowClient
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from facegan.tracking import connection, runs
from facegan.tracking.errors import explain
from facegan.tracking.mirror import LATER


class LiveRun:
    """Keeps the connection to MLflow while it works, and logs the machine's load."""

    def __init__(self, experiment: str, tell: Callable[[], object]) -> None:
        self.experiment, self.tell = experiment, tell
        self.client: MlflowClient | None = None
        self.known = runs.Known()
        self.load: SystemMetricsMonitor | None = None

    def update(self, training: Path) -> None:
        """Mirror the training as far as it is.

        Raises:
            Exception: any, where MLflow or its artifact store fails.
        """
        try:
            self.client = self.client or connection.connect()
            run = runs.mirror(self.client, training, self.experiment, self.known, self.tell)
        except Exception:
            # The next try finds another server, perhaps: it asks for everything.
            self.client, self.known = None, runs.Known()
            raise
        if run.info.status == "RUNNING":
            self._watch_load(run.info.run_id)

    def _watch_load(self, run_id: str) -> None:
        # Its thread ends when a request fails.
        if self.load is None or self.load._process is None or not self.load._process.is_alive():
            self.load = SystemMetricsMonitor(run_id, resume_logging=True)
            self.load.start()

    def explain(self, error: Exception) -> str:
        """One line for the user."""
        return f"{explain(error)}; {LATER}"
