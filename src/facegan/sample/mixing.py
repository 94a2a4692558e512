"""Style mixing (Karras et al. 2019, arXiv 1812.04948, section 3.1 and figure 3)."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from facegan.core.atomic import replacing
from facegan.core.errors import FaceganError
from facegan.core.events import OnEvent, Progress
from facegan.core.pictures import FORMATS, grid
from facegan.models import modulated_resnet, stylegan2
from facegan.models.architectures import ARCHITECTURES
from facegan.models.modulated_resnet import Modulated
from facegan.sample import latents, metadata
from facegan.sample.caption import add_caption
from facegan.sample.destination import check_file
from facegan.sample.opening import Opened
from facegan.sample.renderer import Renderer
from facegan.sample.writing import MAX_GRID, Pixels, check_size, save_described

# Generators whose layers have styles: the latent itself, or what is mapped from it.
Styled = modulated_resnet.Generator | stylegan2.Generator


def check(out: Path, coarse: list[int], fine: list[int]) -> None:
    """
    Raises:
        FaceganError: if no picture can be written there, or the table would be too large.
    """
    check_file(out, "picture", tuple(FORMATS))
    rows, columns = len(coarse) + 1, len(fine) + 1
    if rows * columns > MAX_GRID:
        raise FaceganError(
            f"{out}: a table of {rows:,} x {columns:,} images; valid: at most {MAX_GRID:,} in all; "
            "name fewer seeds after --coarse or --fine"
        )


def require_styles(opened: Opened) -> Styled:
    """The network, if its layers have styles.

    Raises:
        FaceganError: if its architecture is another one.
    """
    network = opened.network
    if isinstance(network, Styled):
        return network
    names = (name for name, module in ARCHITECTURES.items() if type(network) is module.Generator)
    raise FaceganError(
        "mix needs a generator with a style for each layer (train.architecture: modulated-resnet "
        f"or stylegan2); {opened.title} is {next(names)}; facegan interpolate morphs between seeds "
        "of any"
    )


def styled_layers(network: Styled) -> list[tuple[int, nn.Module]]:
    """The layers that are called with features and a style, each with the side of its output in
    pixels, the smallest first."""
    if isinstance(network, modulated_resnet.Generator):
        *norms, block = (layer for layer in network.layers if isinstance(layer, Modulated))
        sides = _sides(network.size, len(norms))
        return list(zip([*sides, network.size], [*norms, block], strict=True))
    smallest, *larger = _sides(network.size, 1 + len(network.up))
    layers = [(smallest, network.first), (smallest, network.to_rgb[0])]
    for modules in (network.up, network.convolutions, network.to_rgb[1:]):
        layers += zip(larger, modules, strict=True)
    return sorted(layers, key=lambda layer: layer[0])


def _sides(largest: int, count: int) -> list[int]:
    return [largest >> number for number in reversed(range(count))]


def crossover(network: Styled, below: int | None) -> int:
    """The side from which on styles are fine; by default, those of the two smallest are coarse,
    as in the paper.

    Raises:
        FaceganError: if `below` is neither a side of a feature map nor twice the largest.
    """
    sides = sorted({side for side, _ in styled_layers(network)})
    valid = [*sides, 2 * sides[-1]]
    if below is not None and below not in valid:
        raise FaceganError(f"--below {below}: valid: {', '.join(map(str, valid))}")
    return below or sides[2]


class Mixer(nn.Module):
    """Two latents beside each other, (n, 2 * latent_dim) -> images in [-1, 1], (n, C, H, W).

    Layers whose output is smaller than `below` pixels take the style of the first latent, the
    others that of the second one.
    """

    def __init__(self, network: Styled, below: int) -> None:
        super().__init__()
        self.network, self.below = network, below

    def forward(self, z: Tensor) -> Tensor:
        coarse, fine = z.chunk(2, dim=1)
        layers, styles = styled_layers(self.network), list[Tensor]()

        def record(_: nn.Module, inputs: tuple[Tensor, Tensor]) -> None:
            styles.append(inputs[1])

        def replace(_: nn.Module, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            return inputs[0], styles[0]

        smallest, first = layers[0]
        with first.register_forward_pre_hook(record):
            x: Tensor = self.network(fine)
        if self.below == smallest:
            return x  # modulated-resnet's first convolution has the latent, too
        with ExitStack() as hooks:
            for side, layer in layers:
                if side >= self.below:
                    hooks.enter_context(layer.register_forward_pre_hook(replace))
            x = self.network(coarse)
            return x


def table(
    network: Styled,
    coarse: list[int],
    fine: list[int],
    below: int,
    truncation: float | None,
    on_event: OnEvent,
) -> Pixels:
    """The table of figure 3, uint8 (H, W, C).

    The first column has the images of the seeds `coarse`, the first row those of `fine`, each as
    `facegan sample` draws it; other cells are mixtures.
    """
    rows = latents.latents(coarse, network.latent_dim, truncation)
    columns = latents.latents(fine, network.latent_dim, truncation)
    own = np.concatenate(list(Renderer(network)(torch.cat([rows, columns]))))
    pairs = [rows.repeat_interleave(len(fine), 0), columns.repeat(len(coarse), 1)]
    mixed = list[Pixels]()
    for batch in Renderer(Mixer(network, below))(torch.cat(pairs, 1)):
        mixed.append(batch)
        on_event(Progress(sum(map(len, mixed)), len(coarse) * len(fine)))
    image = own.shape[1:]
    cells = np.zeros((len(coarse) + 1, len(fine) + 1, *image), np.uint8)
    cells[1:, 0], cells[0, 1:] = own[: len(coarse)], own[len(coarse) :]
    cells[1:, 1:] = np.concatenate(mixed).reshape(len(coarse), len(fine), *image)
    return grid(torch.from_numpy(cells.reshape(-1, *image)), len(fine) + 1)


def mix(
    opened: Opened,
    out: Path,
    coarse: list[int],
    fine: list[int],
    below: int | None,
    truncation: float | None,
    caption: bool,
    on_event: OnEvent,
) -> int:
    """Write the table, with text chunks, and return the crossover.

    Args:
        below: as in `crossover`.
        caption: whether the table gets one.
    Raises:
        FaceganError: if the network has no styles, or not this crossover, or the table is too
            large for a JPEG.
    """
    network = require_styles(opened)
    side, image = crossover(network, below), network.size
    check_size(out, (len(coarse) + 1) * image, (len(fine) + 1) * image)
    text = metadata.describe(opened, [], truncation) | {
        metadata.COARSE: metadata.format_seeds(coarse),
        metadata.FINE: metadata.format_seeds(fine),
        metadata.BELOW: str(side),
    }
    pixels = table(network, coarse, fine, side, truncation, on_event)
    if caption:
        pixels = add_caption(pixels, opened.caption)
    with replacing(out) as temporary:
        save_described(pixels, temporary, out, text)
    return side
