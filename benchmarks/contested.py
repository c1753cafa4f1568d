"""What a cue is worth to people who have others in their own box, over several sets of pictures.

    python benchmarks/contested.py VAL94 VAL179 --twin people-small-nocue

Each folder holds people.json and images/. Own boxes, three hops, flip test; differences of person
AP in points, with 95 % intervals by bootstrap over the pictures, of each set and of all together
(masks where a set has them). Prints Markdown.
"""

import argparse
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from photographs import ahead, verdicts_of

from hintpose_lite.data.coco import CocoPersons
from hintpose_lite.weights.weights import load_model

PAIRS = (("joint", "none"), ("joint", "the twin"), ("points", "none"), ("mask", "none"))


def answers(model, twin, persons: CocoPersons, cues: set[str]) -> tuple[np.ndarray, dict]:
    """Rows of the people, and what is found of them with each cue, and by the twin."""
    cues = cues if persons.has_mask.any() else cues - {"mask"}
    found = {cue: verdicts_of(model, persons, "own", cue, flip=True) for cue in cues}
    found |= {"the twin": verdicts_of(twin, persons, "own", "none", flip=True)} if twin else {}
    return next(iter(found.values()))[0], {name: verdicts for name, (_, verdicts) in found.items()}


def together(sets: list[CocoPersons], all_rows: list[np.ndarray], all_found: list[dict]) -> tuple:
    """The people of several sets as one, for `ahead`: people, rows, and verdicts by name."""
    images = [[f"{i} {image}" for image in persons.image_ids[rows].tolist()]
              for i, (persons, rows) in enumerate(zip(sets, all_rows, strict=True))]
    contested = [persons.contested[rows] for persons, rows in zip(sets, all_rows, strict=True)]
    people = SimpleNamespace(image_ids=np.concatenate(images), contested=np.concatenate(contested))
    found = {name: SimpleNamespace(
        oks=np.concatenate([one[name].oks for one in all_found]),
        scores=np.concatenate([one[name].scores for one in all_found]))
        for name in all_found[0] if all(name in one for one in all_found)}
    return people, np.arange(len(people.contested)), found


def main():
    options = argparse.ArgumentParser()
    options.add_argument("folders", type=Path, nargs="+")
    options.add_argument("--model", default="people-small")
    options.add_argument("--twin", help="the cueless network it is compared with")
    options = options.parse_args()
    torch.set_num_threads(1)
    model = load_model(options.model)
    twin = load_model(options.twin) if options.twin else None
    sets = [CocoPersons(folder / "people.json", folder / "images") for folder in options.folders]
    cues = {cue for pair in PAIRS for cue in pair} - {"the twin"}
    all_rows, all_found = zip(*(answers(model, twin, persons, cues) for persons in sets),
                              strict=True)
    parts = [(folder.name, persons, rows, found) for folder, persons, rows, found in
             zip(options.folders, sets, all_rows, all_found, strict=True)]
    if len(sets) > 1:
        parts.append(("all", *together(sets, all_rows, all_found)))
    print("| pictures | people | contested | more AP of | all | contested |\n"
          "|---|---:|---:|---|---:|---:|")
    for name, people, rows, found in parts:
        for one, other in PAIRS:
            if one in found and other in found:
                print(f"| {name} | {len(rows)} | {people.contested[rows].sum()} | {one} than "
                      f"{other} | {ahead(people, rows, found[one], found[other])} |", flush=True)


if __name__ == "__main__":
    main()
