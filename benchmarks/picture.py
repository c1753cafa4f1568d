"""Draws the README's picture: one box, two people, and the same network with a cue on each.

    python benchmarks/picture.py assets/one_box_two_people.png

The scene is the one of chapter 00. It was chosen since crowd-tiny finds either person with a cue,
and mixes them without one; the tables count how often that is so.
"""

import argparse
from pathlib import Path

from PIL import Image

from hintpose_lite.cues.cue import Cue
from hintpose_lite.labs.scene import NAMES, chimera_scene, cue_frame
from hintpose_lite.photos.draw import blank_figure
from hintpose_lite.weights.weights import load_model

HOPS = 1, 2, 3


def main():
    options = argparse.ArgumentParser()
    options.add_argument("out", type=Path)
    options = options.parse_args()
    model, scene = load_model("crowd-tiny"), chimera_scene()
    asked = {f"cue on {name}": Cue.point(*scene.middle(person))
             for person, name in enumerate(NAMES[:2])} | {"no cue": None}
    figure, axes = blank_figure(len(asked), 1 + len(HOPS))
    for line, (name, cue) in zip(axes, asked.items(), strict=True):
        frames = [cue_frame(model, scene, cue, hops) for hops in HOPS]
        counts = [f"{count} of {who}'s"
                  for count, who in zip(frames[-1].shares, NAMES, strict=False)]
        for axis, panel in zip(line, [frames[-1].picture, *(frame.heat for frame in frames)],
                               strict=True):
            axis.imshow(panel)
        line[0].set_title("joints: " + ", ".join(counts), fontsize=10)
        line[0].set_ylabel(name, fontsize=11)
        for hop, axis in zip(HOPS, line[1:], strict=True):
            axis.set_title(f"heatmaps, hop {hop}", fontsize=10)
        print(f"{name}: {frames[-1].said}; {', '.join(counts)}")
    figure.supxlabel("pose after hop 3: left side solid, right side dashed", fontsize=10)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out, dpi=140)
    with Image.open(options.out) as picture:  # a third of the size
        fewer = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1)
    fewer.save(options.out, optimize=True)


if __name__ == "__main__":
    main()
