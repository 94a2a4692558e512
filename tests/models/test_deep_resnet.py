import pytest
from torch import nn

from facegan.models import dcgan, deep_resnet
from facegan.models.resnet import Block


@pytest.mark.parametrize(("size", "resolutions"), [(28, 2), (64, 4)])
def test_every_norm_of_dcgan_has_a_block_behind_its_activation(size: int, resolutions: int) -> None:
    generator = deep_resnet.Generator(size, 3, 8, 4).layers
    discriminator = deep_resnet.Discriminator(size, 3, 4).layers
    plain = dcgan.Generator(size, 3, 8, 4).layers, dcgan.Discriminator(size, 3, 4).layers
    norms = [sum(isinstance(layer, nn.BatchNorm2d) for layer in layers) for layers in plain]
    blocks = [
        [i for i, layer in enumerate(layers) if isinstance(layer, Block)]
        for layers in (generator, discriminator)
    ]
    assert [len(found) for found in blocks] == norms == [resolutions, resolutions - 1]
    for layers, found in zip((generator, discriminator), blocks, strict=True):
        for index in found:
            block, norm = layers[index], layers[index - 2]
            assert isinstance(block, Block) and isinstance(norm, nn.BatchNorm2d)
            assert block.norm.num_features == norm.num_features
