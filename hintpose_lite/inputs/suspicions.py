"""Says where numbers look like those of another convention: boxes, units, axes."""

import numpy as np

HIGH, GAP = 0.9, 0.3  # the share of boxes that fits in another reading, and how much more that is
INSIDE = 0.7  # the least share of joints in their boxes that is not suspicious (COCO has .97)


def readings(boxes: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
    """Boxes (N, 4) read in other conventions, as x, y, w, h in pixels; sizes (N, 2) of pictures."""
    first, second = boxes[:, :2], boxes[:, 2:]
    both = np.concatenate([sizes, sizes], 1)
    return {"x0, y0, x1, y1": np.concatenate([first, second - first], 1),
            "the centre and size": np.concatenate([first - second / 2, second], 1),
            "fractions of the picture, 0 to 1": boxes * both,
            "per cent of the picture": boxes * both / 100,
            "y, x, h, w": boxes[:, [1, 0, 3, 2]]}


def suspicions(persons) -> list[str]:
    """All warnings for the people of a data set (`CocoPersons`)."""
    sizes = np.array([persons.pictures[image][1:] for image in persons.image_ids.tolist()])
    boxes, keypoints = persons.boxes, persons.keypoints
    keys = {*zip(persons.image_ids.tolist(), map(bytes, keypoints), strict=True)}
    twice = len(boxes) - len(keys)
    found = [suspect_boxes(boxes, keypoints, sizes) or suspect_joints(boxes, keypoints),
             suspect_areas(boxes, persons.areas),
             f"suspicion: {twice} people are annotated twice" if twice > 1 else None]
    return [warning for warning in found if warning]


def suspect_boxes(boxes: np.ndarray, keypoints: np.ndarray, sizes: np.ndarray) -> str | None:
    """A warning if boxes (N, 4) fit the joints (N, K, 3) better in another convention, else None.
    sizes: (N, 2), width and height of the pictures."""
    given = fits(boxes, keypoints, sizes)
    other = {name: fits(values, keypoints, sizes)
             for name, values in readings(boxes, sizes).items()}
    name = max(other, key=lambda key: other[key])
    if other[name] >= HIGH and other[name] >= given + GAP:
        return (f"suspicion: the boxes look like {name}, not x, y, w, h: read so, "
                f"{other[name]:.0%} of them fit their joints, as they are {given:.0%}. Convert the "
                "file")
    return suspect_units(boxes, keypoints, sizes)


def suspect_joints(boxes: np.ndarray, keypoints: np.ndarray) -> str | None:
    """A warning if many labelled joints (N, K, 3) lie outside of their people's boxes (N, 4)."""
    xy, labelled = keypoints[..., :2], keypoints[..., 2] > 0
    slack = 0.05 * boxes[:, None, 2:] + 1
    low, high = boxes[:, None, :2] - slack, boxes[:, None, :2] + boxes[:, None, 2:] + slack
    share = ((xy >= low) & (xy <= high)).all(-1)[labelled].mean()
    if share >= INSIDE:
        return None
    return (f"suspicion: only {share:.0%} of the labelled joints lie in their people's boxes; one "
            "of the two is of another size, order of x and y, or person")


def suspect_areas(boxes: np.ndarray, areas: np.ndarray) -> str | None:
    """A warning if areas (N,) are no areas of people in boxes (N, 4): OKS would be wrong."""
    share = areas / boxes[:, 2:].prod(1).clip(min=1e-6)
    odd = (share > 1.05) | (share < 0.02)
    if odd.mean() < 0.5:
        return None
    return (f"suspicion: {odd.mean():.0%} of the areas are larger than their boxes, or less than a "
            "fiftieth of them, as placeholders are; OKS and AP depend on them. Remove `area`, and "
            "it is taken from the mask or the box")


def suspect_units(boxes: np.ndarray, keypoints: np.ndarray, sizes: np.ndarray) -> str | None:
    """A warning if everything lies in the first one or hundred pixels of much larger pictures."""
    labelled = keypoints[keypoints[..., 2] > 0, :2]
    for limit, name in ((1.5, "fractions of the picture, 0 to 1"),
                        (101, "per cent of the picture")):
        small = (boxes <= limit).all() and (labelled <= limit).all()
        if small and (sizes > 2.2 * limit).all() and boxes[:, 2:].max() > 0.05 * limit:
            return (f"suspicion: boxes and joints look like {name}, since none of them exceeds "
                    f"{limit:g} in pictures of {sizes[0, 0]:g} x {sizes[0, 1]:g} pixels. Convert "
                    "the file to pixels")
    return None


def fits(boxes: np.ndarray, keypoints: np.ndarray, sizes: np.ndarray) -> float:
    """The share of boxes (N, 4) that lie in their picture and leave out at most a tenth of the K
    joints (N, K, 3), where an unlabelled joint counts as inside. sizes: (N, 2) of the pictures."""
    low, high = boxes[:, None, :2], boxes[:, None, :2] + boxes[:, None, 2:]
    xy, labelled = keypoints[..., :2], keypoints[..., 2] > 0
    inside = ((xy >= low - 1) & (xy <= high + 1)).all(-1) | ~labelled
    slack = 0.02 * sizes + 1
    in_picture = ((boxes[:, :2] >= -slack) & (high[:, 0] <= sizes + slack)).all(1)
    solid = (boxes[:, 2:] > 0).all(1)
    return float((in_picture & solid & (inside.mean(1) >= 0.9)).mean())
