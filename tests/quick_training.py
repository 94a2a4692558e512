"""Trainings of tests calibrate their EMA on 20 latents instead of 500, in child processes too."""

from facegan.train import gan_state

CALIBRATION_BATCH = 10


def install() -> None:
    gan_state.CALIBRATION_BATCH = CALIBRATION_BATCH
