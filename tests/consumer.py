"""A user of a registered model, whose environment has MLflow and torch, but not FaceGAN."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PROGRAM = """
import importlib.util, sys
assert importlib.util.find_spec("facegan") is None, sys.path
import mlflow, numpy
uri, latent_dim = sys.argv[1], int(sys.argv[2])
for suffix in ("/Production", "@champion"):
    model = mlflow.pyfunc.load_model(uri + suffix)
    for n in (1, 7):
        rows = [numpy.random.RandomState(seed).randn(latent_dim) for seed in range(n)]
        z = numpy.stack(rows).astype("float32")
        images = model.predict(z)
        assert images.shape == (n, 32, 32, 1) and images.dtype == numpy.uint8, images.shape
    alone = [model.predict(latent[None])[0] for latent in z]
    assert (abs(numpy.stack(alone).astype(int) - images) <= 1).all()
numpy.save("faces.npy", images)
"""


def generate_without_facegan(
    folder: Path, name: str, latent_dim: int, own_store: bool = True
) -> NDArray[np.uint8]:
    """Load `models:/NAME/Production` and `models:/NAME@champion` in a process in `folder`, and
    generate images of 32x32 grey pixels.

    Args:
        own_store: use MLflow's default tracking URI, `sqlite:///mlflow.db`, instead of the
            environment's.
    Returns:
        The images of seeds 0 to 6, with latents as in the README: uint8 (7, 32, 32, 1).
    """
    # -S ignores the .pth file that puts src/ on sys.path; the packages' folder is added instead.
    command = [sys.executable, "-S", "-P", "-W", "ignore", "-c", PROGRAM]
    environment = os.environ | {"PYTHONPATH": sysconfig.get_path("purelib")}
    if own_store:
        environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(
        [*command, f"models:/{name}", str(latent_dim)],
        cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    images: NDArray[np.uint8] = np.load(folder / "faces.npy")
    return images
