"""Takes held-out pictures out of COCO's val2017: those that RESULTS calls "the 179" and "the 94".

    python benchmarks/held_out.py person_keypoints_val2017.json val2017 OUT
    python benchmarks/held_out.py person_keypoints_val2017.json val2017 OUT --which 94

OUT/people.json has everything that the annotations say of these pictures, OUT/images is a link.
Our figures on the 94 were taken with annotations without masks, so they may come out differently.
"""

import argparse
import json
from pathlib import Path

from split import take

IDS = Path(__file__).with_suffix(".json")  # COCO's ids of the pictures


def main():
    options = argparse.ArgumentParser()
    options.add_argument("annotations", type=Path)
    options.add_argument("images", type=Path)
    options.add_argument("out", type=Path)
    options.add_argument("--which", choices=("179", "94"), default="179")
    options = options.parse_args()
    wanted = {*json.loads(IDS.read_text())[options.which]}
    data = json.loads(options.annotations.read_text())
    there = wanted.intersection(image["id"] for image in data["images"])
    if there != wanted:
        raise SystemExit(f"{options.annotations} has {len(there)} of {len(wanted)} pictures: give "
                         "the annotations of val2017")
    take(data, wanted, options.images, options.out)


if __name__ == "__main__":
    main()
