"""A version's scores under one protocol, as the gate compares them."""

from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt, TypeAdapter, ValidationError

WEIGHTS = "generator.safetensors"
COMPANIONS = ("precision", "recall", "memorised")
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Scores:
    """Scores of one generator.

    Attributes:
        protocol: id of the FID's protocol; scores of different ids are never compared.
        metric: name of the FID, such as `fid2k_efficientnet-lite0-112`.
        fid, spread: mean and standard deviation over `latents` sets of latents.
        images: generated images that precision, recall and `memorised` are computed from.
        precision, recall, memorised: in [0, 1]; None if they were not computed.
        held_out: held-out images that `memorised` is relative to.
    """

    protocol: str
    metric: str
    fid: FiniteFloat
    spread: FiniteFloat
    latents: PositiveInt
    images: NonNegativeInt
    held_out: NonNegativeInt
    precision: Share | None
    recall: Share | None
    memorised: Share | None

    @property
    def variance(self) -> float:
        """Squared standard error of `fid`."""
        return self.spread * self.spread / self.latents  # `**` raises OverflowError

    def comparable_with(self, other: "Scores") -> bool:
        return (self.protocol, self.images) == (other.protocol, other.images)

    @classmethod
    def from_metrics(cls, content: dict[str, Any]) -> Self:
        """The official scores in the content of `metrics.json`."""
        protocol, sample = content["protocol"], content.get("sample_metrics", {})
        metric = protocol["name"]
        label = metric.partition("_")[2]

        def share(name: str) -> float | None:
            # From another number of images than the FID, if the reference stores fewer features.
            keys = (key for key in content if key.startswith(name) and key.endswith(label))
            return next((float(content[key]) for key in keys), None)

        return cls(
            protocol=protocol["id"], metric=metric,
            fid=float(content[metric]), spread=float(content[f"{metric}_spread"]),
            latents=len(protocol["seeds"]), images=int(sample.get("images", 0)),
            held_out=int(sample.get("held_out", 0)), precision=share("precision"),
            recall=share("recall"), memorised=share("memorised"),
        )  # fmt: skip

    def to_json(self) -> str:
        return _SCORES.dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str | None) -> "Scores | None":
        """None if `text` is not what `to_json` wrote: tags can be edited by hand."""
        try:
            return _SCORES.validate_json(text or "")
        except ValidationError:
            return None


_SCORES = TypeAdapter(Scores)
