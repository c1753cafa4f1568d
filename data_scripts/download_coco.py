"""Downloads COCO's keypoint annotations and pictures into a folder; run it again to continue.

    python data_scripts/download_coco.py data/coco --only val
"""

import argparse
import re
import shlex

from hintpose_lite.errors import exit_status
from hintpose_lite.runs import download


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 1 if pictures are missing, 2 or 130 as `exit_status`, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=download.__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", default="data/coco", metavar="OUT", help="a folder")
    parser.add_argument("--only", choices=["val", "train"], help="one of the two splits")
    parser.add_argument("--base", default=download.BASE, metavar="ADDRESS", help="that of a mirror")
    parser.add_argument("--jobs", type=int, choices=range(1, 9), default=4, metavar="1-8")
    parser.add_argument("--keep-archives", action="store_true")
    parser.add_argument("--sha256", type=_digest, action="append", default=[], metavar="NAME=HEX",
                        help="SHA-256 of an archive (TensorFlow Datasets has it); repeatable")
    given = parser.parse_args(arguments)
    return exit_status(lambda: get(given), "stopped; the same command continues")


def get(given: argparse.Namespace) -> int:
    """Downloads, and prints what is missing and the next command; returns 1 if any is missing."""
    splits = [given.only] if given.only else ["train", "val"]
    missing = download.download_coco(given.out, splits, base=given.base, jobs=given.jobs,
                                     sha256=dict(given.sha256), keep=given.keep_archives)
    for split, names in missing.items():
        print(f"{split}2017: {len(names) or 'no'} picture(s) missing or empty", *names[:3])
        if names:
            print(f"{split}2017.zip lacks them. Get each from {given.base}/{split}2017/NAME, or "
                  "delete the archive and run this again; until then their people are skipped")
    data = {split: shlex.join([f"{given.out}/annotations/person_keypoints_{split}2017.json",
                               f"{given.out}/{split}2017"]) for split in splits}
    if "train" in data:  # any preset in place of w32-256x192
        val = f" --val {data['val']}" if "val" in data else ""
        print(f"hintpose train --preset w32-256x192 --out runs/coco --data {data['train']}{val}")
    else:
        print(f"hintpose evaluate --model hrnet-w32-coco --cue none --data {data['val']}")
    return int(any(missing.values()))


def _digest(text: str) -> tuple[str, str]:
    name, _, digest = text.partition("=")
    if name in download.SIZES and re.fullmatch("[0-9a-fA-F]{8,64}", digest):
        return name, digest
    raise argparse.ArgumentTypeError(f"{text}: write it like val2017.zip=0123abcd, 8 to 64 digits")


if __name__ == "__main__":
    raise SystemExit(main())
