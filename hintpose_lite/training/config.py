"""One frozen configuration of a training run, its presets, and changes by name."""

import ast
import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from math import inf

from ..cues.training import CueMix
from ..data.crops import Augment
from ..errors import ConfigError
from ..model.device import PRECISIONS
from ..model.hintpose import Spec
from ..settings import ABOVE_0, settle

CHOICES = {"schedule": ("cosine", "step"), "precision": PRECISIONS,
           "batch_norm": ("local", "synchronised")}
LIMITS = {name: limits for names, limits in {
    "steps batch val_images validate_every checkpoint_every": (1, inf),
    "images warmup epochs contested backbone_lr weight_decay hop_weights": (0, inf),
    "hop_dropout freeze_after hops_after drops": (0, 1),
    "seed data_seed": (0, 2 ** 32 - 1),
    "lr": (ABOVE_0, inf)}.items() for name in names.split()}


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a run learns, apart from the number of processes."""

    spec: Spec = Spec()
    # The network, and how it is used.
    augment: Augment = Augment()
    # How crops vary.
    cues: CueMix = CueMix()
    # Which cues are drawn how often.
    steps: int = 3000
    # The length of the run.
    epochs: float = 0.0
    # If above 0, steps are counted from it: each person comes up so many times on average.
    batch: int = 32
    # People per step, over all processes.
    lr: float = 1e-3
    # The highest learning rate (Adam, 1e-3 for 128 people: HRNet).
    backbone_lr: float = 1.0
    # A factor of lr for what was trained already: not for fresh layers and HintPose's additions.
    warmup: int = 200
    # Steps in which lr rises linearly from 0.
    schedule: str = "cosine"
    # "cosine" falls to 0; "step" multiplies lr by 0.1 at each of `drops`.
    drops: tuple[float, ...] = (170 / 210, 200 / 210)
    # Fractions of all steps (HRNet's epochs 170 and 200 of 210).
    weight_decay: float = 0.0
    # AdamW's, of weights; biases and batch norms never decay.
    precision: str = "auto"
    # Of the network: "bf16", "float32", or "auto" for bf16 where it is fast.
    hop_weights: tuple[float, ...] = (1.0, 1.0, 1.0)
    # Of each hop's loss; the last one is repeated for further hops.
    hop_dropout: float = 0.0
    # The probability that a step runs fewer hops.
    batch_norm: str = "local"
    # Statistics of each process, or "synchronised" between them (CUDA only).
    freeze_after: float = 1.0
    # The fraction of steps after which batch norms keep and use their running statistics. In use
    # all hops share these, while a training step normalises each hop by itself, so the network
    # needs time to get used to them. 0.8 is safe; earlier, while lr is high, learning may end.
    hops_after: float = 0.0
    # The fraction of steps before which each runs a single hop, as cheap as HRNet's.
    compile: bool = False
    # Use torch.compile, where it works.
    checkpoint_hops: bool = False
    # Compute the inside of a hop again in the backward pass: less memory, more time.
    init: str = "none"
    # The first weights: "none" (random), "imagenet", a name or a path.
    sources: str = ""
    # How often people are drawn, by the "source" of their picture: "coco=2 lspet=0.5" names the
    # beginnings of sources; all others have 1.
    contested: float = 1.0
    # How often contested people are drawn.
    seed: int = 0
    # Of first weights, crops and cues.
    images: int = 2000
    # Crowd scenes that are drawn where no data are given (0: data must be given),
    scene_size: int = 192
    # their side in pixels,
    data_seed: int = 0
    # their seed (validation scenes have another one),
    val_images: int = 200
    # and the number of validation scenes.
    validate_every: int = 1000
    # Steps between two validations.
    checkpoint_every: int = 500
    # Steps between two checkpoints.

    def __post_init__(self):
        settle(self, CHOICES, LIMITS)
        hops, weights = self.spec.hops, self.hop_weights
        if not re.fullmatch(r"(\s*[^\s=]+=\d+(\.\d*)?(?!\S))*\s*", self.sources):
            raise ConfigError(f"sources={self.sources!r}: write it as \"coco=2 lspet=0.5\"")
        if self.compile and self.checkpoint_hops:
            raise ConfigError("compile and checkpoint_hops do not go together: choose one")
        if not any(weights[:hops]):
            raise ConfigError(f"hop_weights={weights}: give one of the {hops} hop(s) a weight")
        if self.spec.input_size[0] > self.spec.input_size[1]:
            raise ConfigError(f"input_size={self.spec.input_size}, width and height: a "
                              "training needs crops that are not wider than high")
        if (self.hop_dropout or self.hops_after) and not weights[0]:
            raise ConfigError(f"hop_weights={weights}: with hop_dropout or hops_after some steps "
                              "run a single hop, so the first weight must be above 0")

    @classmethod
    def preset(cls, name: str, **changes) -> "TrainConfig":
        """A named configuration; `changes` as for `override`, but with Python values."""
        if name not in PRESETS:
            raise ConfigError(f"no preset {name!r}: there are {', '.join(PRESETS)}")
        return PRESETS[name].override(changes)

    def override(self, changes: dict) -> "TrainConfig":
        """A copy with fields changed by name: {"lr": "1e-3", "width": 16, "augment.shift": 0}.

        The name of the part that a field belongs to, and a dot, may stand before it. Text is read
        as a Python literal. Raises ConfigError for unknown names and other values.
        """
        parts = {"": self, "spec": self.spec, "augment": self.augment, "cues": self.cues}
        home = {field.name: part for part, holder in parts.items() for field in fields(holder)
                if field.name not in parts}
        new = {part: {} for part in parts}
        for key, value in changes.items():
            part, _, name = key.rpartition(".")
            if name not in home or part not in ("", home[name]):
                raise ConfigError(f"no setting {key!r}; there are {', '.join(sorted(home))}")
            holder = parts[home[name]]
            new[home[name]][name] = _read(value, getattr(holder, name))
        own = new.pop("")
        if "steps" in own and "epochs" not in own:
            own["epochs"] = 0.0  # else a preset's epochs would decide
        return replace(self, **own, **{part: replace(parts[part], **values)
                                       for part, values in new.items()})

    def resolve(self, people: int, joints: int, processes: int, device: str) -> "TrainConfig":
        """The config with steps counted from its epochs, for these numbers of people, joints and
        processes, on this kind of device. Raises ConfigError for what does not go together."""
        if self.spec.joints != joints:
            raise ConfigError(f"joints={self.spec.joints}: the data set's skeleton has {joints}")
        if self.batch % processes:
            raise ConfigError(f"batch={self.batch} cannot be shared by {processes} processes: take "
                              f"a multiple of {processes}")
        if self.batch_norm == "synchronised" and device != "cuda":
            raise ConfigError("batch_norm='synchronised' exists on CUDA only: take 'local'")
        if not self.epochs:
            return self
        return replace(self, steps=max(1, round(self.epochs * people / self.batch)))

    def to_dict(self) -> dict:
        """All settings as plain values, for JSON."""
        return json.loads(json.dumps(asdict(self)))


def _read(value, old):
    """Text as the literal it spells, where no text is wanted; a whole float such as 2000 / 2 as an
    int, where one is."""
    if isinstance(value, str) and not isinstance(old, str):
        with suppress(ValueError, SyntaxError):  # what is no literal stays text, and is refused
            value = ast.literal_eval(value)
    if type(old) is int and type(value) is float and value.is_integer():
        value = int(value)
    return value


PRESETS: dict[str, TrainConfig] = {}  # named configurations; runs.presets fills it
