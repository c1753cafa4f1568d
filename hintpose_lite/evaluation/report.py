"""The result of an evaluation: one frozen `Report`, which prints as a table and saves as JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ..errors import DataError
from ..files import write_whole

# Okabe and Ito's palette, which colour-blind people can tell apart (jfly.uni-koeln.de/color).
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"

CUE_WORDS = 2  # the version of the words for cues; files without one have the words before these
OLD_CUES = {"any": "any-joint", "person-box": "box", "box": "centre", "joints": "points"}


@dataclass(frozen=True)
class Report:
    """One evaluation. AP and all rates lie in [0, 1]; a figure is None if nobody was counted.

    protocol, cue, radius, hops, flip, seed, precision: the arguments of `evaluate`.
    identity:   the figures of all people at the last hop, see below; the same for each overlap
                stratum (strata), for "overlap >= .3", "contested" and "uncontested" (groups), and
                for each hop (per_hop).
    picture_ap: COCO's ten figures on whole pictures; None for shared boxes, subsets, wrong cues.
    counts:     how many entries were replaced, left out or not matched, by reason.
    versions:   of the libraries that the figures depend on.

    The figures are: people; ap, person AP; meant, other and neither, how many poses were found on
    the person meant, on the partner, on neither; counted, their sum; accuracy = meant / counted;
    swap_rate = other / counted; separated, how many joints lie apart from the partner's, and
    joint_swap_rate, the share of those found nearer to the partner's; left_out, people with fewer
    than three joints in common with their partner; alone, people without a partner; pairs, two
    counted people who are each other's partners; both, the share of pairs with both found; and
    followed, the swap_rate if the cue was "wrong" (in `identity` only).
    """

    protocol: str
    cue: str
    hops: int
    flip: bool
    seed: int
    people: int
    identity: dict
    strata: dict
    groups: dict
    per_hop: list
    radius: float = 0.0
    picture_ap: dict | None = None
    counts: dict = field(default_factory=dict)
    versions: dict = field(default_factory=dict)
    precision: str = "float32"

    @property
    def ap(self) -> float | None:
        """Person AP of everybody at the last hop."""
        return self.identity["ap"]

    def table(self) -> str:
        """Returns the figures as Markdown tables, in per cent; – where nobody was counted."""
        title = f"{self.protocol} boxes, cue {self.cue}"
        if self.radius:
            title += f" moved by {self.radius:g} sqrt(area)"
        title += f", {self.hops} hop{'' if self.hops == 1 else 's'}, flip test "
        title += f"{'on' if self.flip else 'off'}, seed {self.seed}"
        if self.precision != "float32":
            title += f", {self.precision}"
        if self.protocol == "detected" and not self.cue.startswith(("none", "box", "mask", "pose")):
            title += "; cues from the labels: not comparable with published AP"
        lines = [title, ""]
        strata = {f"overlap {label}": row for label, row in self.strata.items()}
        lines += _figures("people", {"all": self.identity, **strata, **self.groups})
        if self.hops > 1:
            lines += ["", *_figures("all, by hop", {str(row["hop"]): row for row in self.per_hop})]
        if self.picture_ap:
            lines += ["", coco_table(self.picture_ap)]
        lines += [""] * bool(self.counts) + [f"{n} x {what}" for what, n in self.counts.items()]
        return "\n".join(lines)

    def to_json(self, path: str | Path, overwrite: bool = False) -> Path:
        """Writes the report, whole or not at all. An existing file needs overwrite=True."""
        if Path(path).exists() and not overwrite:
            raise DataError(f"{path} exists already; choose another name, or pass overwrite=True")
        text = json.dumps(asdict(self), indent=1, allow_nan=False) + "\n"
        write_whole(path, lambda name: name.write_text(text))
        return Path(path)

    @classmethod
    def from_json(cls, path: str | Path) -> "Report":
        """Reads what `to_json` wrote; an older file's word for its cue becomes today's."""
        try:
            report = cls(**json.loads(Path(path).read_text(encoding="utf-8")))
            if "cues" in report.versions:
                return report
            return replace(report, cue=OLD_CUES.get(report.cue, report.cue))
        except (OSError, ValueError, TypeError) as error:  # the last: a missing or unknown field
            raise DataError(f"{path} is no report of this version: {error}") from error


def compare(reports: Mapping[str, Report]) -> str:
    """A Markdown table with a row per report (models, or kinds of cue): person AP of everybody and
    of each stratum, then how often the right person was found, in per cent."""
    keys, rows, parts = {"AP": "ap", "right": "accuracy"}, [], []
    for name, report in reports.items():
        parts = {"": report.identity, **{f" {label}": row for label, row in report.strata.items()}}
        rows.append([name, str(report.people),
                     *(percent(row[key]) for key in keys.values() for row in parts.values())])
    header = ["", "people", *(title + label for title in keys for label in parts)]
    return "\n".join(markdown(header, rows))


def coco_table(figures: Mapping[str, float | None]) -> str:
    """COCO's ten figures on whole pictures as a Markdown table, in per cent."""
    cells = ["COCO", *map(percent, figures.values())]
    return "\n".join(markdown(["whole pictures", *figures], [cells]))


def _figures(corner: str, rows: Mapping[str, dict]) -> list[str]:
    header = [corner, "n", "AP", "right", "other", "neither", "joint swaps", "left out", "alone",
              "pairs", "both right"]
    cells = []
    for name, row in rows.items():
        neither = row["neither"] / row["counted"] if row["counted"] else None
        rates = row["ap"], row["accuracy"], row["swap_rate"], neither, row["joint_swap_rate"]
        counts = row["left_out"], row["alone"], row["pairs"]
        cells.append([name, str(row["people"]), *map(percent, rates), *map(str, counts),
                      percent(row["both"])])
    return markdown(header, cells)


def percent(value: float | None) -> str:
    """A share of 1 in per cent; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f}"


def markdown(header: list[str], rows: list[list[str]]) -> list[str]:
    """An aligned Markdown table: first column to the left, the others to the right."""
    first, *widths = [max(map(len, column)) for column in zip(header, *rows)]
    head, *body = (" | ".join([row[0].ljust(first), *map(str.rjust, row[1:], widths)])
                   for row in [header, *rows])
    rule = "|".join(["-" * (first + 2), *("-" * (width + 1) + ":" for width in widths)])
    return [f"| {head} |", f"|{rule}|", *(f"| {row} |" for row in body)]
