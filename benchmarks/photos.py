"""Memory, time and accuracy of `hintpose predict` on real pictures.

    python benchmarks/photos.py IMAGES train.json val.json

The annotation files, in COCO's format, share a folder of pictures; they are joined with the ids
they have. The command runs on 20 pictures and on all pictures, in a process each, with the true
boxes, and again with the cue network's cues; `hintpose evaluate --poses` scores the results.
"""

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

RUN = """
import resource, sys
from hintpose_lite.cli import main
status = main(sys.argv[1:])
print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "STATUS", status)
"""


def run(*arguments) -> tuple[float, float, str]:
    """Seconds, peak memory (MiB) and output of the `hintpose` command."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", RUN, *map(str, arguments)], capture_output=True,
                          text=True)
    found = re.search(r"PEAK ([\d.]+) STATUS (\d)", done.stdout)
    if not found or found[2] != "0":
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return time.perf_counter() - start, float(found[1]), done.stdout[:found.start()]


def main():
    options = argparse.ArgumentParser()
    options.add_argument("images", type=Path)
    options.add_argument("annotations", type=Path, nargs="+")
    options.add_argument("--model", default="crowd-tiny")
    options = options.parse_args()
    parts = [json.loads(path.read_bytes()) for path in options.annotations]
    whole = {**parts[0], **{key: sum((part[key] for part in parts), [])
                            for key in ("images", "annotations")}}
    names = [options.images / picture["file_name"] for picture in whole["images"]]
    print(f"{options.model}, {len(names)} pictures; python {platform.python_version()}, torch "
          f"{torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads\n")
    with tempfile.TemporaryDirectory() as folder:
        truth = Path(folder) / "truth.json"
        truth.write_text(json.dumps(whole))
        print("| | pictures | seconds | peak memory, MiB |\n|---|---:|---:|---:|")
        for title, more in (("true boxes", ()), ("true boxes, cue network", ("--cues", "network"))):
            for count in (20, len(names)):
                results = Path(folder) / f"{len(more)}-{count}.json"
                taken, peak, _ = run("predict", *names[:count], "--model", options.model, "--boxes",
                                     truth, *more, "--json", results)
                print(f"| {title} | {count} | {taken:.1f} | {peak:.0f} |", flush=True)
            print(run("evaluate", "--poses", results, "--data", truth, options.images)[2])


if __name__ == "__main__":
    main()
