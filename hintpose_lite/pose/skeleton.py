"""What a body is made of: the keypoints' names, their mirror images, limbs and OKS constants."""

from dataclasses import dataclass
from itertools import chain


@dataclass(frozen=True)
class Skeleton:
    """The keypoints of a body, in the order of the annotation file.

    names:  one name per keypoint, length K.
    swaps:  pairs (left, right) of indices that trade places in a mirrored picture.
    limbs:  pairs of indices joined by a line in drawings.
    sigmas: OKS constant of each keypoint (COCO's per-keypoint standard deviation as a
            fraction of the square root of the person's area), length K.
    upper:  indices above the waist, used by the half-body augmentation; may be empty.
    """

    names: tuple[str, ...]
    swaps: tuple[tuple[int, int], ...]
    limbs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    upper: tuple[int, ...] = ()

    def __post_init__(self):
        count = len(self.names)
        if len(self.sigmas) != count:
            raise ValueError(f"{count} keypoint names but {len(self.sigmas)} sigmas: give one each")
        if not {*chain(*self.swaps, *self.limbs, self.upper)} <= {*range(count)}:
            raise ValueError(f"swaps, limbs and upper may only name keypoints 0 to {count - 1}")
        if len({*chain(*self.swaps)}) != 2 * len(self.swaps):
            raise ValueError("a keypoint may stand in one swap pair only")

    def __len__(self):
        return len(self.names)

    @property
    def mirror(self) -> tuple[int, ...]:
        """Permutation: keypoint i of a mirrored picture is keypoint mirror[i] of the original."""
        partner = {a: b for left, right in self.swaps for a, b in ((left, right), (right, left))}
        return tuple(partner.get(i, i) for i in range(len(self)))


# Constants of the COCO keypoint challenge (https://cocodataset.org/#keypoints-eval).
COCO17 = Skeleton(
    names=("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder",
           "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip",
           "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
    swaps=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    limbs=((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7),
           (6, 8), (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
    sigmas=(.026, .025, .025, .035, .035, .079, .079, .072, .072, .062, .062, .107, .107, .087,
            .087, .089, .089),
    upper=tuple(range(11)),
)
