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
        folder = options.out / name
        folder.mkdir(parents=True)
        (folder / "images").symlink_to((options.people / "images").resolve())
        part = {image["id"] for image in data["images"]
                if (image["id"] in held_out) == (name == "val")}
        text = json.dumps(data | {
            "images": [image for image in data["images"] if image["id"] in part],
            "annotations": [entry for entry in data["annotations"] if entry["image_id"] in part]})
        (folder / "people.json").write_text(text)
        print(f"{folder}: {len(part)} pictures")


if __name__ == "__main__":
    main()
