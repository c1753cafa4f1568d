"""The mean of networks' weights (Wortsman et al., "Model soups", ICML 2022).

    python benchmarks/average.py A.safetensors B.safetensors --out MEAN.safetensors

The networks have one spec and come from one training: later parts of it, or parts that began at the
same weights. Statistics of batch norms are averaged, too. The calibration is left out; fit it anew
with `calibrate.py`.
"""

import argparse
from dataclasses import replace

import torch

from hintpose_lite.weights.weights import load_model, save_model


def main():
    options = argparse.ArgumentParser()
    options.add_argument("models", nargs="+")
    options.add_argument("--out", required=True)
    options = options.parse_args()
    model, *others = map(load_model, options.models)
    model.spec = replace(model.spec, calibration=(1.0, 0.0))
    states = [one.state_dict() for one in (model, *others)]
    model.load_state_dict({
        name: torch.stack([state[name] for state in states]).mean(0)
        if value.is_floating_point() else value for name, value in states[0].items()})
    save_model(model, options.out, half=True)


if __name__ == "__main__":
    main()
