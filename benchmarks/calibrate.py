"""Joint scores that say how often a joint is right.

    python benchmarks/calibrate.py MODEL ANNOTATIONS IMAGES [--out FILE.safetensors]

Predicts every person of a data set that was not trained on, in their own box and in shared boxes,
with a joint as the cue, and fits sigmoid(slope x logit(height) + offset) to whether a labelled
joint was found within two OKS sigmas (2 sigma sqrt(area)). The fit takes the pictures with an even
id, the table those with an odd one. --out writes the network again, with the calibration.
"""

import argparse
from dataclasses import replace

import torch
from torch.nn import functional as F

from hintpose_lite.cues.evaluation import person_cue
from hintpose_lite.data.coco import CocoPersons
from hintpose_lite.evaluation.evaluate import evaluated_people
from hintpose_lite.evaluation.predict import Predictor
from hintpose_lite.photos.estimator import calibrate
from hintpose_lite.pose.geometry import union
from hintpose_lite.weights.weights import load_model, save_model

EDGES = torch.linspace(0, 1, 11)


def joints_of(model, persons: CocoPersons) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Heights, whether right, and image ids of all labelled joints: three tensors (n,)."""
    parts = []
    for protocol in ("own", "shared"):
        rows = evaluated_people(persons, protocol, "joint")
        boxes = torch.as_tensor(persons.boxes)
        boxes = boxes[rows] if protocol == "own" else union(boxes[rows],
                                                            boxes[persons.partner[rows]])
        cues = [person_cue(persons, int(row), "joint") for row in rows]
        found = Predictor(model).predict_people(persons, rows, boxes, cues)
        truth = torch.as_tensor(persons.keypoints[rows])
        scale = 2 * torch.tensor(persons.skeleton.sigmas) * torch.as_tensor(
            persons.areas[rows]).float().sqrt()[:, None]
        right = (found.keypoints[-1] - truth[..., :2]).norm(dim=-1) <= scale
        images = torch.as_tensor(persons.image_ids[rows])[:, None].expand_as(right)
        labelled = truth[..., 2] > 0
        parts.append((found.scores[-1][labelled], right[labelled], images[labelled]))
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def fit(heights: torch.Tensor, right: torch.Tensor) -> tuple[float, float]:
    """Slope and offset with the largest likelihood."""
    x, y = heights.logit(eps=1e-4).double(), right.double()
    values = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([values], max_iter=100)

    def loss():
        optimiser.zero_grad()
        value = F.binary_cross_entropy_with_logits(values[0] * x + values[1], y)
        value.backward()
        return value

    optimiser.step(loss)
    slope, offset = values.detach().tolist()
    return round(slope, 4), round(offset, 4)


def print_table(raw: torch.Tensor, calibrated: torch.Tensor, right: torch.Tensor) -> None:
    print("| score | joints, by height | right | joints, calibrated | right |")
    print("|---|---:|---:|---:|---:|")
    for low, high in zip(EDGES[:-1], EDGES[1:], strict=True):
        cells = [f"{low:.1f} to {high:.1f}"]
        for scores in (raw, calibrated):
            inside = (scores >= low) & (scores < high if high < 1 else scores <= 2)
            share = right[inside].float().mean() if inside.any() else torch.nan
            cells += [str(int(inside.sum())), f"{100 * share:.0f} %" if inside.any() else "–"]
        print("| " + " | ".join(cells) + " |")


def main():
    options = argparse.ArgumentParser()
    options.add_argument("model")
    options.add_argument("annotations")
    options.add_argument("images")
    options.add_argument("--out")
    options = options.parse_args()
    model, persons = load_model(options.model), CocoPersons(options.annotations, options.images)
    heights, right, images = joints_of(model, persons)
    fitted = images % 2 == 0
    calibration = fit(heights[fitted], right[fitted])
    rest = ~fitted
    print(f"{options.model}: slope and offset {calibration}, fitted to {int(fitted.sum())} joints; "
          f"{int(rest.sum())} others:\n")
    print_table(heights[rest], calibrate(heights[rest], calibration), right[rest])
    if options.out:
        model.spec = replace(model.spec, calibration=calibration)
        save_model(model, options.out, half=True)


if __name__ == "__main__":
    main()
