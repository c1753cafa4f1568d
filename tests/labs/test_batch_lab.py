"""The batch lab: what a flip does to joints, targets and cues, what is drawn, and its controls."""

import numpy as np
import pytest
import torch

from hintpose_lite.labs.batch_lab import (
    KINDS,
    NAMES,
    ZOOM,
    BatchLab,
    example,
    pictures,
    sheet,
    where,
)
from hintpose_lite.pose.heatmaps import decode
from hintpose_lite.pose.skeleton import COCO17
from hintpose_lite.runs.presets import TrainConfig

SPEC = TrainConfig.preset("crowd-quick", input_size=(64, 96)).spec
LEFT, RIGHT = NAMES.index("left wrist"), NAMES.index("right wrist")


@pytest.fixture(scope="module")
def row(crowd):
    """Somebody whose wrists are both labelled, with a partner."""
    fitting = (crowd.keypoints[:, [LEFT, RIGHT], 2] > 0).all(1) & (crowd.overlap >= 0.1)
    return int(fitting.nonzero()[0][0])


@pytest.mark.parametrize("strength", [0.0, 0.8])
def test_a_flip_mirrors_the_crop_and_swaps_the_names(crowd, row, strength):
    plain, flipped = (example(crowd, row, SPEC, "mask", 4, flip, strength) for flip in (0, 1))
    # An even light and no interpolation at strength 0; else the picture is resampled.
    torch.testing.assert_close(flipped.images, plain.images.flip(-1), rtol=0, atol=0.02)
    torch.testing.assert_close(flipped.cues, plain.cues.flip(-1), rtol=0, atol=0.02)
    mirrored = plain.points[:, list(COCO17.mirror)]
    mirrored = torch.stack([SPEC.input_size[0] - 1 - mirrored[..., 0], mirrored[..., 1]], -1)
    torch.testing.assert_close(flipped.points, mirrored, rtol=0, atol=1e-3)
    found, _ = decode(flipped.targets, SPEC.input_size, "dark", SPEC.target_sigma)
    known = flipped.weights > 0
    assert (found - flipped.points)[known].norm(dim=-1).median() < 1


def test_strength_and_draw_change_the_crop(crowd, row):
    plain, other, strong, stronger, elsewhere = (
        example(crowd, row, SPEC, "centroid", seed, False, strength)
        for seed, strength in ((0, 0), (1, 0), (0, 0.5), (0, 1), (1, 1)))
    assert torch.equal(plain.points, other.points) and torch.equal(plain.images, other.images)
    moved = [(batch.points - plain.points).norm() for batch in (strong, stronger, elsewhere)]
    assert 0 < moved[0] < moved[1] and moved[2] > 0
    assert not torch.equal(stronger.points, elsewhere.points)


def test_pictures_are_the_batch(crowd, row):
    batch = example(crowd, row, SPEC, "centroid")
    shape = tuple(ZOOM * side for side in SPEC.input_size[::-1]) + (3,)
    for kind in KINDS:
        [crop], [cue], [targets] = pictures(example(crowd, row, SPEC, kind), SPEC)
        assert crop.shape == cue.shape == targets.shape == shape
    _, [cue], [all_targets] = pictures(batch, SPEC)
    _, [nothing], [one] = pictures(example(crowd, row, SPEC, "none"), SPEC, RIGHT)
    peak = np.unravel_index(int(batch.cues.argmax()), SPEC.input_size[::-1])
    y, x = (ZOOM * place + ZOOM // 2 for place in peak)
    assert cue[y, x, 2] > cue[y, x, 0] + 60 and not np.array_equal(cue, nothing)
    x, y = (round(value) for value in ((batch.points[0, RIGHT] + 0.5) * ZOOM).tolist())
    colour = one[y, x].astype(int)
    assert colour[0] > colour[1] + 30 and not np.array_equal(one, all_targets)


def test_a_sheet_holds_its_pictures_in_order():
    inks = [[(200, 0, 0), (0, 200, 0)], [(0, 0, 200), (200, 200, 0)]]
    shown = sheet([[np.full((60, 40, 3), ink, np.uint8) for ink in line] for line in inks],
                  [["a", "b"], ["c", "d"]])
    height, width = (side // 2 for side in shown.shape[:2])
    for i, line in enumerate(inks):
        for j, ink in enumerate(line):
            part = shown[i * height:(i + 1) * height, j * width:(j + 1) * width]
            assert tuple(part[45, 5]) == ink and (part[:25].reshape(-1, 3) == 255).all(1).any()


def test_the_words_say_where_target_and_mirror_are(crowd, row):
    plain, flipped = (example(crowd, row, SPEC, "joint", flip=flip) for flip in (False, True))
    x, y = (round(value) for value in flipped.points[0, LEFT].tolist())
    said = where(flipped, LEFT, True)
    assert said.startswith(f"target of the left wrist: x = {x}, y = {y} (pixels of the crop); ")
    mirror = SPEC.input_size[0] - 1 - float(plain.points[0, LEFT, 0])
    assert f"take it to x = {mirror:.0f}, " in said and said.endswith("the right wrist's place")
    assert "mirror" not in where(plain, LEFT, False)
    plain.weights[0, LEFT] = 0
    assert where(plain, LEFT, False).startswith("no target: the left wrist has no label")


def test_the_lab_follows_its_controls(crowd, row):
    lab = BatchLab(crowd, SPEC, [row])
    assert not lab.errors and "target of the left wrist" in lab.status.value
    seen = {lab.still.value}
    for change in ({"flip": True}, {"strength": 0.7}, {"draw": 3}, {"cue": "mask"},
                   {"joint": "right wrist"}):
        lab.set(**change)
        seen.add(lab.still.value)
    assert len(seen) == 6 and not lab.errors and "right wrist" in lab.still.value
    expected = example(crowd, row, SPEC, "mask", 3, True, 0.7)
    torch.testing.assert_close(lab.batch.images, expected.images)
    assert repr(lab) == "BatchLab()"
