"""A generator in the middle of its training, looked at."""

import torch

from facegan.features.frechet import Moments, Statistics
from facegan.models.architectures import build_generator
from facegan.train.monitor import Judge

CPU, FEATURES = torch.device("cpu"), 1280


def test_the_quick_fid_is_in_float32_proper_on_a_gpu() -> None:
    judge, allowed = make_judge(), list[bool]()
    judge.extraction.extractor.register_forward_pre_hook(
        lambda *_: allowed.append(torch.backends.cudnn.allow_tf32)
    )
    judge.quick_fid(build_generator("dcgan", size=28, channels=1, latent_dim=4, width=4))
    assert allowed == [False]


def test_the_quick_fid_of_a_long_training_is_not_compiled() -> None:
    assert make_judge(fakes=10**9).extraction.compiled is None


def make_judge(fakes: int = 8) -> Judge:
    features = torch.rand(16, FEATURES)
    moments = Moments(FEATURES)
    moments.update(features)
    extractor = {"extractor": "efficientnet-lite0", "input_size": 32, "precision": "float32"}
    about = {"extractor": extractor, "count": len(features)}
    quick = Statistics.of(moments, about, features, torch.arange(16), features[:0])
    images = torch.randint(0, 256, (8, 28, 28, 1), dtype=torch.uint8)
    return Judge(quick, images, latent_dim=4, fakes=fakes, device=CPU)
