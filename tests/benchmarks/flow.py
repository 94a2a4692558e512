"""What Prefect's flow costs beside `dvc repro` of the same stages."""

import shutil
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.harness import Line, seconds
from conftest import make_params
from flows import prefect_server
from project import LONG_ENOUGH, Project

ROUNDS = 3
PARAMS = make_params(train=LONG_ENOUGH | {"eval_interval": 13_440})  # a training of a minute
FLOW = (sys.executable, "-m", "pipelines.training")


def run() -> Iterator[Line]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        project = Project(folder / "project", Path("digits"), PARAMS)
        environment = project.environment | {"PREFECT_HOME": name}
        environment.pop("PREFECT_API_URL", None)
        with prefect_server(environment, folder) as url:
            ways = {"a server": {"PREFECT_API_URL": url}, "a temporary server": {}}
            project.run("dvc", "repro")
            project.commit("the first result")
            for way, server in ways.items():
                yield _line(project, f"all up to date, {way}", {"PREFECT_HOME": name} | server)
            server = {"PREFECT_HOME": name} | ways["a server"]
            yield _line(project, "all stages, a server", server, "--force")


def _line(project: Project, name: str, environment: dict[str, str], *options: str) -> Line:
    """Both in turn; the median of the differences."""
    flow = (*FLOW, "--repository", str(project.folder))

    def spent(*command: str, **variables: str) -> float:
        # Without checkpoints, or a forced training only exports its networks.
        shutil.rmtree(project.folder / "checkpoints", ignore_errors=True)
        return seconds(lambda: project.run(*command, *options, **variables))

    pairs = [(spent(*flow, **environment), spent("dvc", "repro")) for _ in range(ROUNDS)]
    ours, baseline = (statistics.median(times) for times in zip(*pairs, strict=True))
    more = statistics.median(flow - dvc for flow, dvc in pairs)
    rounds = " ".join(f"{flow - dvc:.1f}" for flow, dvc in pairs)
    figure = f"{more:.1f} s more ({rounds}), {more / baseline:.0%}"
    return Line(f"flow, {name}", f"{ours:.1f} s", f"{baseline:.1f} s", figure, "", True)
