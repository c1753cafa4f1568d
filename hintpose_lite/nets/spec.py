"""The frozen description of a HintPose: how to build it again, and how to use it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from ..errors import CheckpointError, ConfigError
from ..settings import settle
from .hrnet import check_size

CHOICES = {"codec": ("quarter", "dark", "udp"), "cue_level": ("image", "stem"),
           "feedback": ("heatmaps", "both"), "base": ("f", "previous")}


@dataclass(frozen=True)
class Spec:
    """Everything needed to build a HintPose again and to use it; saved with its weights.

    width, joints, stem, modules, blocks, final_kernel: the HRNet, see there.
    cue, hops:     with an instance cue or not; hops run unless a call asks for another number
                   (1: built without recurrence).
    input_size:    (width, height) of the crops in pixels, multiples of 32.
    codec:         how heatmaps encode points: "quarter", "dark" or "udp".
    target_sigma:  of the training targets, in heatmap pixels.
    cue_sigma:     of a point cue, in crop pixels; cue_amplitude multiplies the cue map.
    cue_level:     the correction is added to the "image", or to the output of the "stem".
    cue_channels:  channels between the two convolutions of the correction.
    feedback:      what a hop hands to the next: its "heatmaps", or "both" those and its features.
    base:          what a hop updates: "f", or the "previous" hop's updated features.
    detach:        True: no gradient flows from a hop to the one before through the feedback.
    mean, std:     of the RGB channels, for pictures in [0, 1] (default: ImageNet's).

    Raises ConfigError on a value of the wrong type or outside its choices.
    """

    width: int = 32
    joints: int = 17
    cue: bool = True
    hops: int = 3
    stem: int = 64
    modules: tuple[int, int, int] = (1, 4, 3)
    blocks: int = 4
    final_kernel: int = 1
    input_size: tuple[int, int] = (192, 256)
    codec: str = "quarter"
    target_sigma: float = 2.0
    cue_sigma: float = 8.0
    cue_amplitude: float = 1.0
    cue_level: str = "image"
    cue_channels: int = 16
    feedback: str = "heatmaps"
    base: str = "f"
    detach: bool = True
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self):
        settle(self, **CHOICES)
        for field in fields(self):
            value, default = getattr(self, field.name), field.default
            if isinstance(default, tuple) and len(value) != len(default):
                raise ConfigError(f"{field.name}={value}: {len(default)} numbers are needed")
        small = [n for n in ("hops", "cue_channels") if getattr(self, n) < 1]
        small += [n for n in ("target_sigma", "cue_sigma") if not getattr(self, n) > 0]
        if small or min(self.std) <= 0:
            raise ConfigError(f"{', '.join(small) or 'std'} must be greater than zero")
        check_size(*self.input_size)

    def to_dict(self) -> dict:
        """A dictionary that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping) -> "Spec":
        """Undoes to_dict, also after a trip through JSON. Raises CheckpointError."""
        names = {field.name for field in fields(cls)}
        values = {"final_kernel": 1, **values} if isinstance(values, Mapping) else {}  # older files
        odd = names.symmetric_difference(values)
        if odd:
            raise CheckpointError(f"this is not a spec that this version knows: "
                                  f"{', '.join(sorted(odd))} missing or not known")
        try:
            return cls(**values)
        except ConfigError as error:
            raise CheckpointError(f"the stored spec cannot be used: {error}") from error
