"""HintPose: an HRNet with a cue that says whose pose is wanted, and with feedback over hops.

Hong, H. Park, J. Park, Cho, H. Park, "HintPose", arXiv 2003.02170. The report gives the two
additions in words; numbers it leaves open (channels, sigma, where gradients stop) are our choice.

* Instance cue: one more input channel, bright on the person who is meant. `InputRefinement`
  turns picture and cue into a correction that is added to the picture.
* Recurrent refinement: stem and layer1 give features f once. Hop 1 reads f as it is; every later
  hop reads f plus what `RecurrentRefinement` makes of f and of the hop before.

Both corrections end in a convolution that starts at zero, so a fresh HintPose computes exactly what
its HRNet computes. No batch norm and ReLU follow it: at zero, they would let no gradient through.
"""

from collections.abc import Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from math import inf

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..errors import CheckpointError, ConfigError
from ..pose.heatmaps import CODECS
from ..settings import ABOVE_0, settle
from .hrnet import ConvBN, HRNet, check_images, check_size

CHOICES = {"codec": CODECS, "cue_level": ("image", "stem")}
LIMITS = {**dict.fromkeys(("hops", "cue_channels"), (1, inf)),
          **dict.fromkeys(("target_sigma", "cue_sigma", "std"), (ABOVE_0, inf))}
OLDER = {"feedback": "heatmaps", "base": "f"}  # files store these former settings


@dataclass(frozen=True)
class Spec:
    """Everything needed to build a HintPose again and to use it; saved with its weights.

    width, joints, stem, modules, blocks, final_kernel: the HRNet, see there.
    cue, hops:     with a cue or not; hops of a call by default (1: built without recurrence).
    input_size:    (width, height) of the crops in pixels, multiples of 32.
    codec:         how heatmaps encode points, see `pose.heatmaps`.
    target_sigma:  of the training targets, in heatmap pixels.
    cue_sigma:     of a point cue, in crop pixels; cue_amplitude multiplies the cue map.
    cue_level:     the correction is added to the "image", or to the output of the "stem".
    cue_channels:  channels between the two convolutions of the correction.
    detach:        True: no gradient flows from a hop to the one before through the feedback.
    mean, std:     of the RGB channels, for pictures in [0, 1] (default: ImageNet's).
    calibration:   slope and offset of `photos.estimator.calibrate`; (1, 0) changes nothing.

    Raises ConfigError for other values.
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
    detach: bool = True
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    calibration: tuple[float, float] = (1.0, 0.0)

    def __post_init__(self):
        settle(self, CHOICES, LIMITS)
        for field in fields(self):
            value, default = getattr(self, field.name), field.default
            if isinstance(default, tuple) and len(value) != len(default):
                raise ConfigError(f"{field.name}={value}: {len(default)} numbers are needed")
        check_size(*self.input_size)

    @classmethod
    def from_dict(cls, values: Mapping) -> "Spec":
        """Undoes asdict, also after a trip through JSON. Raises CheckpointError."""
        names = {field.name for field in fields(cls)}
        older = {"final_kernel": 1, "calibration": (1.0, 0.0)}  # what older files do not have
        values = {**older, **values} if isinstance(values, Mapping) else {}
        for name, only in OLDER.items():
            if values.pop(name, only) != only:
                raise CheckpointError(f"this version runs networks with {name}={only!r} only: "
                                      "train this one anew, or use the version that made it")
        if odd := names.symmetric_difference(values):
            raise CheckpointError(f"this is not a spec that this version knows: "
                                  f"{', '.join(sorted(odd))} missing or not known")
        try:
            return cls(**values)
        except ConfigError as error:
            raise CheckpointError(f"the stored spec cannot be used: {error}") from error


class InputRefinement(nn.Module):
    """The correction [features, cue] -> features' channels; zero until trained.

    `forward` takes features (N, C, H, W) and cue maps (N, 1, H, W), and returns (N, C, H, W).
    """

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.embed = ConvBN(channels + 1, hidden)
        self.correct = nn.Conv2d(hidden, channels, 3, padding=1)
        nn.init.zeros_(self.correct.weight)
        nn.init.zeros_(self.correct.bias)

    def forward(self, features: Tensor, cues: Tensor) -> Tensor:
        return self.correct(self.embed(torch.cat([features, cues], dim=1)))


class RecurrentRefinement(nn.Module):
    """The correction (N, C, H, W) of features (N, C, H, W) by the output (N, outputs, H, W) of the
    hop before; zero until trained."""

    def __init__(self, channels: int, outputs: int, hidden: int):
        super().__init__()
        self.extract = ConvBN(outputs, hidden, 1)
        self.update = nn.Conv2d(channels + hidden, channels, 1)
        nn.init.zeros_(self.update.weight)
        nn.init.zeros_(self.update.bias)

    def forward(self, features: Tensor, output: Tensor) -> Tensor:
        return self.update(torch.cat([features, self.extract(output)], dim=1))


class HintPose(HRNet):
    """HRNet with an instance cue and recurrent refinement; the baseline is cue=False, hops=1.

    `settings` are the other fields of `Spec`. Raises ConfigError when one is not usable.
    """

    def __init__(self, width: int = 32, joints: int = 17, cue: bool = True, hops: int = 3,
                 **settings):
        known = [field.name for field in fields(Spec)]
        if unknown := set(settings).difference(known):
            raise ConfigError(f"HintPose has no setting {', '.join(sorted(unknown))}; "
                              f"it has {', '.join(known)}")
        spec = Spec(width=width, joints=joints, cue=cue, hops=hops, **settings)
        super().__init__(spec.width, spec.joints, stem=spec.stem, modules=spec.modules,
                         blocks=spec.blocks, final_kernel=spec.final_kernel)
        self.spec = spec
        self.trained_on = ""  # what the data set calls itself; saved with the weights
        self.checkpoint_hops = False  # in training: less memory for more time, the same result
        if spec.cue:
            channels = 3 if spec.cue_level == "image" else spec.stem
            self.input_refinement = InputRefinement(channels, spec.cue_channels)
        if spec.hops > 1:
            self.recurrent_refinement = RecurrentRefinement(4 * spec.stem, spec.joints, spec.stem)
            self._share_momentum()

    @classmethod
    def from_spec(cls, spec: Spec) -> "HintPose":
        return cls(**asdict(spec))

    def _share_momentum(self) -> None:
        """Lets a training step move the running statistics as far as a step of HRNet does: u hops
        update a shared average u times and keep (1 - m)^u of the old one, where HRNet's step keeps
        1 - 0.1, hence m = 1 - 0.9^(1/u)."""
        once = ("bn1", "bn2", "layer1.", "input_refinement.")
        for name, module in self.named_modules():
            if isinstance(module, nn.BatchNorm2d) and not name.startswith(once):
                updates = self.spec.hops - name.startswith("recurrent_refinement.")
                module.momentum = 1 - (1 - module.momentum) ** (1 / updates)

    def stem_features(self, images: Tensor, cues: Tensor | None = None,
                      rows: Tensor | None = None) -> Tensor:
        """All that runs once for a cue: (N, 3, H, W), (N, 1, H, W) -> (N, 4 * stem, H/4, W/4)."""
        check_images(images)
        cues = self._check_cues(images, cues, len(images) if rows is None else len(rows))
        late = self.spec.cue_level == "stem"
        x = self.stem(images) if late else images  # that stem knows no cue, so its work is shared
        x = x if rows is None else x[rows]
        if cues is not None:
            if late:
                for _ in range(2):  # windows as the stem's two strided convolutions have them
                    cues = F.avg_pool2d(cues, 3, stride=2, padding=1, count_include_pad=False)
            x = x + self.input_refinement(x, cues)
        return self.layer1(x if late else self.stem(x))

    def _check_cues(self, images: Tensor, cues: Tensor | None, count: int) -> Tensor | None:
        """Cue maps scaled by their amplitude; zeros where none were given; None without a cue."""
        if not self.spec.cue:
            if cues is not None:
                raise ConfigError("this network was built without a cue (cue=False): call it "
                                  "without cues, or take one built with cue=True")
            return None
        shape = (count, 1, *images.shape[2:])
        if cues is None:
            return images.new_zeros(shape)
        if tuple(cues.shape) != shape:
            raise ConfigError(f"cues must be maps of shape {shape}, not {tuple(cues.shape)}")
        return cues * self.spec.cue_amplitude

    def forward(self, images: Tensor, cues: Tensor | None = None, hops: int | None = None,
                rows: Tensor | None = None) -> Tensor:
        """Heatmaps of every hop: (hops, N, joints, H / 4, W / 4).

        images: (N, 3, H, W), normalised with spec.mean and spec.std; H and W multiples of 32.
        cues:   (N, 1, H, W) in [-1, 1]; None means no cue (zeros).
        hops:   the number of passes, at least 1 (None: spec.hops); above 1 only with recurrence.
        rows:   (N,) with M images: cue i belongs to images[rows[i]]; None: to images[i]. With the
                cue at the stem, the stem runs once per image.

        Raises ConfigError for cues without a cue input, other shapes, or such hops.
        """
        hops = self.spec.hops if hops is None else hops
        if type(hops) is not int or hops < 1:
            raise ConfigError(f"hops must be a whole number of at least 1, not {hops!r}")
        if hops > 1 and self.spec.hops == 1:
            raise ConfigError(f"this network was built with hops=1, without recurrence: to run "
                              f"{hops} hops, build it with hops=2 or more")
        features = f = self.stem_features(images, cues, rows)
        outputs = []
        for hop in range(hops):
            if hop:
                last = outputs[-1].detach() if self.spec.detach else outputs[-1]
                features = f + self.recurrent_refinement(f, last)
            if self.checkpoint_hops and torch.is_grad_enabled():
                outputs.append(checkpoint(self._run_hop, features, use_reentrant=False, context_fn=(
                    lambda: (nullcontext(), _no_statistics(self)))))  # they are counted once
            else:
                outputs.append(self._run_hop(features))
        return torch.stack(outputs)

    def _run_hop(self, features: Tensor) -> Tensor:
        return self.final_layer(self.head(features))


class Ensemble(nn.Module):
    """Several networks as one: the mean of their heatmaps after each hop. Raises ConfigError if
    they do not agree in what a crop, a cue and a heatmap are."""

    SAME = ("input_size", "joints", "codec", "target_sigma", "cue", "cue_sigma", "mean", "std")

    def __init__(self, models: list[HintPose]):
        super().__init__()
        self.models = nn.ModuleList(models)
        for name in self.SAME:
            values = {str(getattr(model.spec, name)) for model in models}
            if len(values) > 1:
                raise ConfigError(f"networks with {name}={' and '.join(sorted(values))} cannot be "
                                  "averaged")
        self.spec = replace(models[0].spec, hops=min(model.spec.hops for model in models),
                            calibration=Spec.calibration)  # each network's fits that network only
        self.trained_on = "; ".join(dict.fromkeys(model.trained_on for model in models))

    def forward(self, images: Tensor, cues: Tensor | None = None, hops: int | None = None,
                rows: Tensor | None = None) -> Tensor:
        """As `HintPose.forward`. By default, all run the hops of the network with the fewest."""
        hops = self.spec.hops if hops is None else hops
        return torch.stack([model(images, cues, hops, rows) for model in self.models]).mean(0)


def as_hintpose(model: "HRNet | Ensemble", **settings) -> "HintPose | Ensemble":
    """An HRNet as a HintPose without a cue and with one hop, sharing its weights. settings: fields
    of `Spec` that an HRNet lacks. A HintPose or Ensemble is returned as it is."""
    if isinstance(model, HintPose | Ensemble):
        return model
    with torch.random.fork_rng(devices=[]):  # its first weights are thrown away at once
        wrapped = HintPose(**model.architecture, cue=False, hops=1, **settings)
    for name, module in model.named_children():
        setattr(wrapped, name, module)
    wrapped.training = model.training
    return wrapped


def norms(model: nn.Module) -> list[nn.Module]:
    """The batch norms of a model, also those that processes share."""
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.SyncBatchNorm)]


@contextmanager
def _no_statistics(model: nn.Module):
    """Batch norms leave their running averages as they are."""
    momenta = {module: module.momentum for module in norms(model)}
    try:
        for module in momenta:
            module.momentum = 0.0
        yield
    finally:
        for module, momentum in momenta.items():
            module.momentum = momentum
