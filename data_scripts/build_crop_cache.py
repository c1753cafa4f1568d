"""Cuts the windows of all people of a COCO-format data set once, into a folder to train from.

    python data_scripts/build_crop_cache.py annotations/person_keypoints_train2017.json \
        train2017 data/crops-384

Stopped or killed, the same command goes on where it was. `--check` reads a finished cache again and
compares it with its checksums.
"""

import argparse

from hintpose_lite.data.cache import CropCache, build_cache
from hintpose_lite.data.coco import CocoPersons
from hintpose_lite.errors import exit_status


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (2: an error that was explained)."""
    parser = argparse.ArgumentParser(description="Cut the windows of all people into a folder.")
    parser.add_argument("annotations", metavar="ANN", help="a COCO keypoint file")
    parser.add_argument("images", metavar="IMAGES", help="its folder of pictures")
    parser.add_argument("out", metavar="OUT", help="a new folder, or one to go on with")
    parser.add_argument("--size", type=int, default=384, help="of the windows, in pixels")
    parser.add_argument("--quality", type=int, default=92, help="of the JPEGs, 1 to 100")
    parser.add_argument("--workers", type=int, metavar="N", help="threads (default: all cores)")
    parser.add_argument("--check", action="store_true", help="only compare with the checksums")
    parser.add_argument("--rebuild", action="store_true", help="start anew, whatever is in OUT")
    options = parser.parse_args(arguments)
    return exit_status(lambda: build(options), "stopped; the same command goes on")


def build(options: argparse.Namespace) -> None:
    persons = CocoPersons(options.annotations, options.images)
    if options.check:
        cache = CropCache(options.out, persons)
        cache.check()
    else:
        cache = build_cache(persons, options.out, options.size, quality=options.quality,
                            workers=options.workers, rebuild=options.rebuild)
    print(f"{options.out}: {len(cache)} people, complete" + ", undamaged" * options.check)


if __name__ == "__main__":
    raise SystemExit(main())
