"""Takes pictures out of a set of people for choices between networks: RESULTS calls them "the 250".

    python benchmarks/split.py PEOPLE OUT      # OUT/train and OUT/val, each with people.json

PEOPLE is a folder with people.json and images/, in which every picture has a "source". The pictures
of val are drawn, seed 0, from those of coco_val2017 with labelled people, since these are the most
similar to the pictures of the exam. Both new folders have a link to images/.
"""

import argparse
import json
import random
from pathlib import Path


def take(data: dict, wanted: set[int], images: Path, folder: Path) -> None:
    """Writes what COCO's content says of some pictures into a new folder, as people.json beside a
    link to the images."""
    folder.mkdir(parents=True)
    (folder / "images").symlink_to(images.resolve())
    (folder / "people.json").write_text(json.dumps(data | {
        "images": [image for image in data["images"] if image["id"] in wanted],
        "annotations": [entry for entry in data["annotations"] if entry["image_id"] in wanted]}))
    print(f"{folder}: {len(wanted)} pictures")


def main():
    options = argparse.ArgumentParser()
    options.add_argument("people", type=Path)
    options.add_argument("out", type=Path)
    options.add_argument("--images", type=int, default=250)
    options = options.parse_args()
    data = json.loads((options.people / "people.json").read_text())
    labelled = {entry["image_id"] for entry in data["annotations"]
                if any(v > 0 for v in entry.get("keypoints", [])[2::3])}
    chosen = [image["id"] for image in data["images"]
              if image["source"] == "coco_val2017" and image["id"] in labelled]
    random.Random(0).shuffle(chosen)
    held_out = {*chosen[:options.images]}
    for name in ("train", "val"):
        part = {image["id"] for image in data["images"]
                if (image["id"] in held_out) == (name == "val")}
        take(data, part, options.people / "images", options.out / name)


if __name__ == "__main__":
    main()
