"""A pose from an exported network, with nothing but numpy, Pillow and onnxruntime.

    hintpose export --model crowd-tiny --out pose.onnx       # once, where hintpose_lite is
    python onnx_pose.py pose.onnx photo.jpg 120 40 200 300 210 140

The numbers are the person's box (x, y, width, height) and a click (x, y) on the person who is
meant, all in picture pixels; leave the click out for a network without a cue, or for no hint.
Prints a line a joint: its name, x and y in picture pixels, and the height of its peak.

Integer coordinates are pixel centres. The decoder is the plain one, a quarter pixel toward the
higher neighbour; the package's "dark" is finer, "udp" needs another relation of crop and heatmap.
"""

import json
import math
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

JOINTS = ("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder",
          "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip",
          "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle")


def main(model, picture, x, y, w, h, *click):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    spec = json.loads(session.get_modelmeta().custom_metadata_map["hintpose_spec"])
    (width, height), sigma = spec["input_size"], spec["cue_sigma"]
    assert spec["codec"] != "udp", "this script decodes quarter and dark only"

    # The box grows to the crop's aspect and by a quarter; its centre lands on the crop's.
    middle = np.array([x + w / 2, y + h / 2])
    scale = width / (1.25 * max(w, h * width / height))  # crop pixels per picture pixel
    left, top = middle + 0.5 - (np.array([width, height]) + 1) / 2 / scale  # the crop's edges
    fine = math.ceil(1 / scale)  # several samples a crop pixel when shrinking, so nothing aliases
    picture = ImageOps.exif_transpose(Image.open(picture)).convert("RGB")
    crop = picture.transform(
        (width * fine, height * fine), Image.Transform.EXTENT,
        (left, top, left + width / scale, top + height / scale),
        Image.Resampling.BILINEAR).reduce(fine)
    image = (np.asarray(crop, np.float32) / 255 - spec["mean"]) / spec["std"]
    feed = {"images": image.transpose(2, 0, 1)[None].astype(np.float32)}

    # The cue: a Gaussian of height 1 on the click; all zeros without one.
    if spec["cue"]:
        feed["cues"] = np.zeros((1, 1, height, width), np.float32)
        if click:
            u, v = (np.array(click) - middle) * scale + (width / 2, height / 2)
            row, column = ((np.arange(size) - at) ** 2 for size, at in ((width, u), (height, v)))
            feed["cues"][0, 0] = np.exp(-(column[:, None] + row) / (2 * sigma**2))

    heatmaps = session.run(["heatmaps"], feed)[0][-1, 0]  # of the last hop: (joints, h, w)
    for name, heatmap in zip(JOINTS, heatmaps, strict=True):
        row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
        point = np.array([column, row], float)
        if 1 < column < heatmap.shape[1] - 1 and 1 < row < heatmap.shape[0] - 1:
            point += 0.25 * np.sign([heatmap[row, column + 1] - heatmap[row, column - 1],
                                     heatmap[row + 1, column] - heatmap[row - 1, column]])
        px, py = (4 * point - (width / 2, height / 2)) / scale + middle
        print(f"{name:15}{px:8.1f}{py:8.1f}{heatmap[row, column]:7.2f}")


if __name__ == "__main__":
    if len(sys.argv) not in (7, 9):
        sys.exit(__doc__)
    main(*sys.argv[1:3], *map(float, sys.argv[3:]))
