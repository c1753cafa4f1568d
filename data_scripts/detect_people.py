"""Detects people in all pictures of a COCO-format file; `hintpose evaluate --detections` reads OUT.

OUT contains boxes and, with kind masks, RLE segmentations; CUES contains boxes and poses. Both are
COCO result files, and `ResultFile` turns masks and poses into cues. If the script was stopped, run
the same command again to continue. It ends with a list of the pictures that could not be read.
"""

import argparse
import json
import zlib
from pathlib import Path

import numpy as np
from pycocotools.mask import encode
from tqdm import tqdm

from hintpose_lite.data.coco import CocoPersons
from hintpose_lite.errors import DataError, exit_status
from hintpose_lite.files import write_whole
from hintpose_lite.inputs.pictures import read_picture
from hintpose_lite.photos.detectors import Detections, Detector


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status, as `exit_status` does."""
    return exit_status(lambda: detect(arguments), "stopped; the same command goes on")


def detect(arguments: list[str] | None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("annotations", "images", "out", "--cues"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--kind", choices=("masks", "keypoints"), default="masks")
    parser.add_argument("--score", type=float, default=0.05, help="leave out people below it")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    if options.cues and (options.kind == "masks" or options.cues == options.out):
        parser.error("--cues takes poses, which --kind keypoints finds; masks are in OUT")
    targets = [path for path in (options.out, options.cues) if path]
    if there := [str(path) for path in targets if path.exists()]:
        parser.error(f"{' and '.join(there)} exist already: choose another name, or remove them")
    persons = CocoPersons(options.annotations, options.images, check_pictures=False)
    detector, bad = Detector(options.kind, score=options.score, device=options.device), []
    settings = f"{options.kind}-{options.score}-{zlib.crc32(options.annotations.read_bytes()):08x}"
    part = Path(f"{options.out}.{settings}.part")  # one line per picture; the last may be cut off
    with part.open("a+b") as log:
        log.seek(0)
        lines = log.read()
        log.truncate(lines.rfind(b"\n") + 1)
        found = dict(json.loads(line) for line in lines.splitlines(True) if line.endswith(b"\n"))
        for i in tqdm(sorted(persons.pictures.keys() - found), unit="picture"):
            name, *size = persons.pictures[i]
            try:
                picture = read_picture(persons.images / name, tuple(size))
            except DataError as error:
                bad.append(str(error))
                continue
            found[i] = results(detector.detect(picture), image_id=i, category_id=persons.category)
            log.write(json.dumps([i, found[i]]).encode() + b"\n")
            log.flush()
    people = [person for i in sorted(found) for person in found[i]]
    for path in targets:
        kept = [{key: person[key] for key in person if path == options.cues or key != "keypoints"}
                for person in people]
        write_whole(path, lambda name, kept=kept: name.write_text(json.dumps(kept)))
    part.unlink()
    print(f"{len(people)} people; pictures read: {len(found)}, not: {len(bad)}", *bad, sep="\n")


def results(found: Detections, **ids: int) -> list[dict]:
    """COCO results of the people found in a picture, each with `ids`."""
    if found.masks is None:
        more = [{"keypoints": points.ravel().tolist()} for points in found.keypoints]
    else:
        masks = encode(np.asfortranarray(found.masks.transpose(1, 2, 0), np.uint8))
        more = [{"segmentation": {**mask, "counts": mask["counts"].decode()}} for mask in masks]
    people = zip(found.boxes.tolist(), found.scores.tolist(), more, strict=True)
    return [{**ids, "bbox": box, "score": score, **rest} for box, score, rest in people]


if __name__ == "__main__":
    raise SystemExit(main())
