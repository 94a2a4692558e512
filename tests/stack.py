"""A project whose photographs, remote storage, runs and models are on a stack of servers."""

import re
import shutil
import sys
from pathlib import Path

import boto3

from conftest import make_params
from project import LONG_ENOUGH, Project
from servers import wait

# A slow training that prints its progress often.
TRAIN = LONG_ENOUGH | {"base_channels": 32, "epochs": 8, "eval_interval": 270}
PARAMS = make_params(train=TRAIN)
LOAD = """
import mlflow, numpy
model = mlflow.pyfunc.load_model("models:/facegan-test/Production")
images = model.predict(numpy.zeros((2, 100), "float32"))
assert images.shape == (2, 32, 32, 1) and images.dtype == "uint8"
"""


def fetch(project: Project, photographs: Path, environment: dict[str, str]) -> None:
    """Bring the photographs into the project by way of the bucket, and add remote storage."""
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    )
    for path in photographs.iterdir():
        client.upload_file(str(path), "photographs", path.name)
    client.close()
    shutil.rmtree(project.folder / "data")
    (project.folder / "data.dvc").unlink()
    project.run("facegan", "fetch", "s3://photographs", **environment)
    project.run("dvc", "add", "--quiet", "data")
    project.run("dvc", "remote", "add", "--default", "storage", "s3://dvc")
    project.commit("photographs of the bucket, remote storage")


def check_result(project: Project, environment: dict[str, str]) -> str:
    """Load the model by stage, ask the doctor, and return what `facegan models` prints."""
    project.run(sys.executable, "-c", LOAD, **environment)
    output = project.run("facegan", "doctor", **environment)
    rows = {line.split()[1]: line.split()[0] for line in output.splitlines()}
    assert {rows[name] for name in ("dvc", "mlflow", "prefect", "s3")} == {"ok"}, output
    return project.run("facegan", "models", **environment)


def wait_for_progress(log: Path) -> None:
    """Wait until the training of a flow has seen more images."""
    seen = _progress(log)
    wait(lambda: _progress(log) > seen, 300)


def _progress(log: Path) -> int:
    seen = re.findall(r"train: ([\d,]+)/", log.read_text())
    return int(seen[-1].replace(",", "")) if seen else 0
