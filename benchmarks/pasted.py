"""A contact sheet of pasted people, from drawn scenes.

    python benchmarks/pasted.py assets/pasted.png

Each tile is a training crop in which a second person was pasted. The outline is the visible mask of
the person who is meant; their joints are discs, hidden ones hollow. Seed 0.
"""

import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from hintpose_lite.crowd.folder import make_crowd
from hintpose_lite.data.crops import Augment, PersonCrops
from hintpose_lite.model.hintpose import Spec

ROWS, COLUMNS, ZOOM = 3, 6, 3
GREEN, WHITE, BLACK = (0, 158, 115), (255, 255, 255), (0, 0, 0)


def tile(item: dict) -> np.ndarray:
    """A crop, three times as large, with the mask's outline and the joints."""
    image = np.ascontiguousarray(item["crops"].transpose(1, 2, 0))
    size = (ZOOM * image.shape[1], ZOOM * image.shape[0])
    image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    mask = cv2.resize(item["masks"][0], size, interpolation=cv2.INTER_LINEAR)
    outline, _ = cv2.findContours(np.uint8(mask > 127), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for width, colour in ((6, WHITE), (3, GREEN)):
        cv2.drawContours(image, outline, -1, colour, width, cv2.LINE_AA)
    for x, y, v in item["keypoints"]:
        if v > 0:
            place = (round(ZOOM * float(x)), round(ZOOM * float(y)))
            cv2.circle(image, place, 5, WHITE, -1, cv2.LINE_AA)
            cv2.circle(image, place, 4, BLACK, -1 if v == 2 else 1, cv2.LINE_AA)
    return cv2.copyMakeBorder(image, 4, 4, 4, 4, cv2.BORDER_CONSTANT, value=WHITE)


def main(out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        people = make_crowd(Path(folder) / "scenes", 60, seed=0)
        crops = PersonCrops(people, Spec(input_size=(96, 128)), Augment(
            paste=1.0, rotate=0.0, scale=0.0, half_body=0.0, shared=1.0, light=0.0))
        tiles = []
        for row in range(len(people)):
            pasted = crops.paster.draw(row, 0, np.random.default_rng(row)) is not None
            item = crops.item(0, row, kind="mask") if pasted else None
            if item is not None and item["masks"].any() and item["neighbours"][:, 2].any():
                tiles.append(tile(item))
            if len(tiles) == ROWS * COLUMNS:
                break
    sheet = np.vstack([np.hstack(tiles[i:i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)])
    Image.fromarray(sheet).quantize(128).save(out, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
