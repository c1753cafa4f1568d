"""What a network cannot express because it has fewer channels than joints.

    python benchmarks/channels.py crowd-tiny runs/crowd-quick/both-0/model.safetensors

Heatmaps are a linear map of the finest branch's channels. If a network has fewer channels than
joints, some combinations of heatmaps are the same in every picture (unless the last convolution is
3x3 and so reads nine pixels of each channel). Prints for each network the joints in each lost
combination, with their shares.
"""

import argparse

import torch

from hintpose_lite.pose.skeleton import COCO17
from hintpose_lite.weights.weights import load_model


def main():
    options = argparse.ArgumentParser()
    options.add_argument("models", nargs="+")
    print("| network | channels | combination of heatmaps that never changes |\n|---|---:|---|")
    for name in options.parse_args().models:
        weights = load_model(name).final_layer.weight.detach().flatten(1)
        channels = weights.shape[1]  # times the pixels it reads
        lost = [", ".join(f"{share:+.2f} {joint.replace('_', ' ')}"
                          for share, joint in zip(shares, COCO17.names, strict=True)
                          if abs(share) > 0.1)
                for shares in torch.linalg.svd(weights)[0].T[channels:]]
        print(f"| {name} | {channels} | {'; '.join(lost) or 'none'} |")


if __name__ == "__main__":
    main()
