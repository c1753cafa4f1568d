"""Named configurations of training runs."""

from dataclasses import replace

from ..data.crops import Augment
from ..model.hintpose import Spec
from ..training.config import PRESETS, TrainConfig

# Scenes are plentiful and all people stand upright, so little variation is needed.
LIGHT = Augment(rotate=0.0, scale=0.15, half_body=0.0, shared=0.6, light=0.2)
SMALL = Spec(width=16, stem=16, modules=(1, 1, 1), blocks=1, input_size=(96, 128), codec="dark",
             target_sigma=1.2, cue_sigma=5.0, cue_channels=8)
# HRNet's recipe but for half-body boxes and unrounded targets: no cue, one hop, 210 epochs.
FIELD = TrainConfig(spec=Spec(cue=False, hops=1), augment=Augment(shift=0.0, shared=0.0, light=0.0),
                    schedule="step", epochs=210.0, batch=128, warmup=0, init="imagenet",
                    compile=True, images=0, validate_every=10_000, checkpoint_every=1000)
# People in photographs, for a CPU.
PEOPLE = TrainConfig(
    spec=replace(SMALL, width=24, stem=24, modules=(1, 2, 2), input_size=(128, 160),
                 target_sigma=1.5, cue_sigma=6.7, cue_amplitude=1.6),
    augment=Augment(rotation=30.0, rotate=0.5, scale=0.25, half_body=0.2, shared=0.6,
                    cue_height=0.625, paste=0.4),
    images=0, steps=8000, lr=2.5e-3, weight_decay=0.05, hop_dropout=0.5, hops_after=0.8,
    freeze_after=0.8, validate_every=2000, checkpoint_every=250)
LARGE = Spec(cue=False, hops=1, width=48, input_size=(288, 384), target_sigma=3.0)
# HintPose on top: hops come late and batch norms are frozen at the first drop of the rate, so that
# the network gets used to statistics that all hops share (chapter 04).
HINT = dict(augment=Augment(), warmup=500, hops_after=0.5, hop_dropout=0.5, freeze_after=170 / 210)

PRESETS.update({
    # A variant of the study: minutes on one core.
    "crowd-quick": TrainConfig(spec=SMALL, augment=LIGHT, steps=3000, batch=16, lr=4e-3,
                               hops_after=0.5, images=4000, validate_every=1000),
    # The shipped weights: two hours on one core. Hops are expensive, so they are added late.
    "crowd-tiny": TrainConfig(
        spec=replace(SMALL, modules=(1, 2, 2), cue_amplitude=1.6), steps=20_000, lr=4e-3,
        augment=replace(LIGHT, shared=0.85, cue_height=0.625), weight_decay=0.05, hop_dropout=0.6,
        hops_after=0.7, freeze_after=0.7, images=24000, val_images=400,
        validate_every=4000),
    # The shipped network for photographs: parts of two hours on one core (model card).
    "people-small": PEOPLE,
    # A variant of the study of real people: minutes on one core, from a network of drawn people.
    "people-quick": replace(
        PEOPLE, spec=replace(SMALL, modules=(1, 2, 2), cue_amplitude=1.6), steps=2000, batch=16,
        lr=3e-3, hops_after=0.5, init="crowd-tiny-nocue"),
    # A small network for a small sample of COCO.
    "sample": TrainConfig(spec=SMALL, epochs=60.0, batch=16, lr=4e-3, warmup=50, images=0,
                          validate_every=500, checkpoint_every=100),
    # The row that everything is compared with: HRNet as published.
    "w32-baseline": FIELD,
    "w48-baseline": replace(FIELD, spec=LARGE, batch=64, lr=5e-4),
    # HintPose on HRNet's schedule.
    "w32-256x192": replace(FIELD, spec=Spec(codec="dark"), **HINT),
    "w48-384x288": replace(FIELD, batch=64, lr=5e-4, **HINT, spec=replace(
        LARGE, cue=True, hops=3, codec="dark", cue_sigma=12.0)),
    # Adds the cue and the hops to a trained HRNet, whose batch statistics stay as they are.
    "w32-finetune": replace(FIELD, spec=Spec(codec="dark"), init="hrnet-w32-coco", epochs=20.0,
                            schedule="cosine", lr=5e-4, backbone_lr=0.1,
                            **HINT | {"hops_after": 0.0, "freeze_after": 0.0}),
})
