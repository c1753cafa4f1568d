"""Draws crowd scenes into a folder in COCO format, as `hintpose crowd` does.

    python data_scripts/make_crowd.py data/crowd --images 2000 --seed 0
"""

import sys

from hintpose_lite.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["crowd", *sys.argv[1:]]))
