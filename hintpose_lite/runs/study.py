"""Trains the four variants side by side and compares them.

The baseline, + cue, + recurrence and + both share backbone, data, steps and seed, and all are
evaluated on the same held-out people in the same boxes. Two jobs with one thread each finish sooner
than one job with two threads, so each variant runs in a process of its own.
"""

import multiprocessing
import os
import signal
import statistics
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch

from ..errors import ConfigError, RunError
from ..evaluation.evaluate import evaluate
from ..evaluation.report import Report, markdown
from ..files import write_whole
from ..model.device import choose_device
from ..training.config import TrainConfig
from ..training.folder import open_folder
from ..training.loop import train
from ..weights.weights import load_model
from .people import open_data
from .preflight import announce
from .watch import status

VARIANTS = {"baseline": {"cue": False, "hops": 1}, "+cue": {"cue": True, "hops": 1},
            "+recurrence": {"cue": False, "hops": 3}, "+both": {"cue": True, "hops": 3}}
# The arguments of each evaluation; variants without a cue input get no cue.
QUESTIONS = {"shared": {"protocol": "shared", "cue": "joint"},
             "shared-centroid": {"protocol": "shared", "cue": "centroid"},
             "shared-mask": {"protocol": "shared", "cue": "mask"},
             "shared-centre": {"protocol": "shared", "cue": "centre"},
             "wrong": {"protocol": "shared", "cue": "wrong"},
             "own": {"protocol": "own", "cue": "joint"}}
# Columns of the table: title, name of the evaluation, part of the report, figure.
COLUMNS = (("shared AP", "shared", "all", "ap"),
           ("AP, overlap >= .3", "shared", "overlap >= .3", "ap"),
           ("right person", "shared", "all", "accuracy"),
           ("other person", "shared", "all", "swap_rate"),
           ("right, centroid cue", "shared-centroid", "all", "accuracy"),
           ("AP, mask cue", "shared-mask", "all", "ap"),
           ("right, mask cue", "shared-mask", "all", "accuracy"),
           ("right, box centre", "shared-centre", "all", "accuracy"),
           ("wrong cue followed", "wrong", "all", "followed"),
           ("own AP", "own", "all", "ap"), ("own AP, overlap >= .3", "own", "overlap >= .3", "ap"))


def study(config: TrainConfig, out: str | Path, seeds=(0,), *, variants: dict | None = None,
          data=None, val=None, jobs: int | None = None,
          device: str | torch.device | None = None) -> str:
    """Trains every variant with every seed in a folder of `out`, evaluates it on the held-out
    people, and returns the table (Markdown, per cent; mean and standard deviation over seeds).

    data, val: pairs (annotations, images); give both, or neither for crowd scenes. Finished runs
    are not repeated; a folder of another study, or of other people, is refused. jobs: parallel
    processes (default: one per core, at most 4; 1 on a GPU). Reports are written to the run
    folders, the table to `out`/table.md.
    """
    out, variants = Path(out), VARIANTS if variants is None else variants
    seeds = [*dict.fromkeys(seeds)]  # a repeated seed would hide the spread
    device = choose_device(device)
    jobs = jobs or (min(os.cpu_count() or 1, 4) if device.type == "cpu" else 1)
    if jobs < 1:
        raise ConfigError(f"jobs={jobs}: give a whole number of at least 1")
    if data is not None and val is None:
        raise ConfigError("a study of given data needs held-out people: give val, too")
    tasks = {(name, seed): replace(config.override(changes), seed=seed)
             for seed in seeds for name, changes in variants.items()}
    persons, held_out = open_data(config, data, val)  # drawn once, before the processes start
    for people in (persons, held_out):
        if people.odd:
            print(people.summary(), flush=True)
    open_folder(out, {"config": config.to_dict(), "data": persons.sha256,
                      "held_out": held_out.sha256})
    with (_ending_together(),
          ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _begin) as pool):
        # Long runs start first, so that no long run is left for the end.
        order = sorted(tasks, key=lambda task: -tasks[task].spec.hops * tasks[task].steps)
        futures = {task: pool.submit(run_variant, tasks[task], out / _folder(*task), data, val,
                                     device, position) for position, task in enumerate(order)}
        try:
            done = {task: future.result() for task, future in futures.items()}
        except BrokenProcessPool as error:
            raise RunError("a training process was killed, perhaps for lack of memory: start again "
                           "with fewer jobs; finished runs are kept") from error
    table = summary(done, list(variants), seeds)
    write_whole(out / "table.md", lambda name: name.write_text(table + "\n", encoding="utf-8"))
    return table


@contextmanager
def _ending_together():
    """SIGTERM ends the study as Ctrl-C does, and its processes with it."""
    def end(*_):
        for child in multiprocessing.active_children():
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(child.pid, signal.SIGINT)
        raise KeyboardInterrupt
    main = threading.current_thread() is threading.main_thread()  # else signals cannot be set
    before = signal.signal(signal.SIGTERM, end) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _begin() -> None:
    """Sets up a process: it uses one thread, and Ctrl-C ends it before it takes the next task."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(1)


def _folder(name: str, seed: int) -> str:
    return f"{name.strip('+').replace(' ', '-').replace(',', '')}-{seed}"


def run_variant(config: TrainConfig, out: Path, data, val, device: torch.device,
                position: int = 0) -> dict[str, Report]:
    """Trains and evaluates one variant, apart from what is finished; returns its reports."""
    persons, held_out = open_data(config, data, val)
    train(config, out, persons, held_out, device=device, position=position, before=announce)
    if not status(out).complete:
        raise RunError(f"{out} was stopped before its end, so the study has no table yet; the same "
                       "command continues it")
    model = load_model(out / "model.safetensors", device)
    reports = {}
    for name, arguments in QUESTIONS.items():
        path = out / f"report-{name}.json"
        older = out / "report-shared-box.json"  # its name until `centre` was the word
        if name == "shared-centre" and older.exists() and not path.exists():
            path = older
        if not path.exists():
            evaluate(model, held_out, **arguments).to_json(path)
        reports[name] = Report.from_json(path)
    return reports


def summary(done: dict, variants: list[str], seeds) -> str:
    """The Markdown table of {(variant, seed): {evaluation: Report}}, with its longer side down."""
    columns = {name: zip(*(figures_of(done[name, seed]) for seed in seeds), strict=True)
               for name in variants}
    table = [["per cent", *(title for title, *_ in COLUMNS)],
             *([name, *map(_mean, columns[name])] for name in variants)]
    if len(variants) < len(COLUMNS):
        table = [*map(list, zip(*table, strict=True))]
    return "\n".join(markdown(table[0], table[1:]))


def figures_of(reports: dict[str, Report]) -> list[float | None]:
    """One run's figures in the order of COLUMNS, from its reports by evaluation."""
    return [(reports[question].identity if part == "all" else reports[question].groups[part])
            .get(figure) for _, question, part, figure in COLUMNS]


def _mean(values: tuple[float | None, ...]) -> str:
    if any(value is None for value in values):
        return "–"
    mean = f"{100 * statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * statistics.stdev(values):.1f}"
