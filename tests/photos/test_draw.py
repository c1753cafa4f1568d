"""Drawings, by their pixels."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hintpose_lite.cues.cue import Cue, render_cues
from hintpose_lite.errors import ConfigError, DataError
from hintpose_lite.labs import figures
from hintpose_lite.labs.figures import hop_strip
from hintpose_lite.model.hintpose import HintPose
from hintpose_lite.photos import draw
from hintpose_lite.photos.draw import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PEOPLE,
    PURPLE,
    RED,
    WHITE,
    draw_cue,
    draw_people,
    draw_poses,
    heatmap_overlay,
    overlay,
)
from hintpose_lite.photos.estimator import PoseEstimator
from hintpose_lite.pose.geometry import crop_matrix
from hintpose_lite.pose.heatmaps import encode
from hintpose_lite.pose.oks import oks
from hintpose_lite.pose.skeleton import COCO17, Skeleton

# A square: left side, right side, and a line across the top that joins both.
SQUARE = Skeleton(("l1", "l2", "r1", "r2"), ((0, 2), (1, 3)), ((0, 1), (2, 3), (0, 2)), (.1,) * 4)
CORNERS = np.array([(80.0, 20.0), (80.0, 80.0), (20.0, 20.0), (20.0, 80.0)])
GREEN_FIELD = np.full((100, 100, 3), (40, 120, 40), np.uint8)
SMALL = dict(width=4, stem=8, modules=(1, 1, 1), blocks=1, input_size=(32, 64))


def pose(scores=(1, 1, 1, 1), keypoints=CORNERS, cue=None, box=(0, 0, 100, 240)):
    return SimpleNamespace(keypoints=keypoints, scores=np.array(scores, float), box=np.array(box),
                           cue=cue)


def assert_all_fits(figure):
    figure.savefig(io.BytesIO())
    axes = figure.axes
    texts = [*(axis.title for axis in axes), *(axis.yaxis.label for axis in axes)]
    texts += figure.texts  # the line at the bottom is one of them
    for extent in [text.get_window_extent() for text in texts if text.get_text()]:
        assert extent.x0 >= 0 and extent.y0 >= 0
        assert extent.x1 <= figure.bbox.x1 and extent.y1 <= figure.bbox.y1


def near(pixels, colour, tolerance=12) -> np.ndarray:
    return (np.abs(np.asarray(pixels, int) - colour) <= tolerance).all(-1)


def test_left_right_and_centre_differ_in_hue_and_the_right_is_dashed():
    picture = GREEN_FIELD.copy()
    drawn = draw_poses(picture, [pose()], SQUARE)
    assert np.array_equal(picture, GREEN_FIELD) and drawn.dtype == np.uint8
    between = slice(26, 75)
    assert near(drawn[between, 80], BLUE).all()
    assert near(drawn[20, between], GREY).all()
    dashed = near(drawn[between, 20], ORANGE)
    assert 0.3 < dashed.mean() < 0.9 and near(drawn[between, 20], GREEN_FIELD[0, 0], 30).any()
    assert (np.diff(dashed.astype(int)) == 1).sum() >= 2
    assert near(drawn[50, 50], GREEN_FIELD[0, 0], 0)


def test_less_sure_is_fainter_and_low_joints_are_hollow():
    faint = draw_poses(GREEN_FIELD, [pose((0.3, 0.3, 1, 1))], SQUARE)
    sure = draw_poses(GREEN_FIELD, [pose()], SQUARE)
    assert not near(faint[50, 80], GREEN_FIELD[0, 0], 20)

    def strength(drawn):
        return abs(drawn[50, 80].astype(int) - GREEN_FIELD[0, 0]).sum()

    assert strength(faint) < 0.7 * strength(sure)
    alone = Skeleton(SQUARE.names, SQUARE.swaps, (), SQUARE.sigmas)
    hollow = draw_poses(GREEN_FIELD, [pose((0.2, 1, 1, 1))], alone)
    assert near(hollow[20, 80], GREEN_FIELD[0, 0], 20) and near(hollow[80, 80], BLUE)
    assert not near(hollow[14:27, 74:87], GREEN_FIELD[0, 0], 20).all()


def test_lines_grow_with_the_person():
    def width(size):
        drawn = draw_poses(GREEN_FIELD, [pose(box=(0, 0, size, size))], SQUARE)
        return near(drawn[50], BLUE, 60).sum()

    assert 1 <= width(40) < width(240) < width(480)


def test_cues_are_marked():
    cue = Cue.points([(50, 50), (50, 70)], [1, -1])
    drawn = draw_poses(GREEN_FIELD, [pose(cue=cue)], SQUARE)
    assert near(drawn[50, 50], (255, 255, 255)) and near(drawn[70, 50], (255, 255, 255))
    assert near(drawn[47, 53], draw.GREEN, 60) and near(drawn[73, 53], draw.RED, 60)
    plain = draw_poses(GREEN_FIELD, [pose(cue=Cue.box((1, 1, 5, 5)))], SQUARE)
    assert np.array_equal(plain, draw_poses(GREEN_FIELD, [pose()], SQUARE))


@settings(deadline=None, max_examples=12)
@given(arrays(float, (4, 2), elements=st.floats(-1e4, 1e4)), st.floats(0.01, 1000))
def test_poses_anywhere_leave_the_size_alone(keypoints, size):
    drawn = draw_poses(GREEN_FIELD[:30, :20], [pose(keypoints=keypoints, box=(0, 0, size, 1))],
                       SQUARE)
    assert drawn.shape == (30, 20, 3)


def test_nobody_to_draw():
    assert np.array_equal(draw_poses(GREEN_FIELD, [], SQUARE), GREEN_FIELD)


def test_a_zoomed_copy_has_finer_drawings_at_the_same_places():
    drawn = draw_poses(GREEN_FIELD, [pose()], SQUARE, zoom=6)
    assert drawn.shape == (600, 600, 3)
    column = near(drawn[300], BLUE, 60).nonzero()[0]
    assert abs(column.mean() - 482.5) < 1 and len(column) > 12, "pixel 80 covers 480 to 485"
    tiny = [pose(box=(0, 0, 9, 9))]
    lines = [near(draw_poses(GREEN_FIELD, tiny, SQUARE, zoom=z)[50 * z], BLUE, 60).sum() / z
             for z in (1, 6)]
    assert lines[1] < lines[0], "finer, next to the person"


def test_unknown_joints_and_their_limbs_are_not_drawn():
    known = np.array([CORNERS[0], CORNERS[1], (np.nan, np.nan), CORNERS[3]])
    drawn = draw_poses(GREEN_FIELD, [pose(keypoints=known)], SQUARE)
    assert near(drawn[26:75, 80], BLUE).all() and near(drawn[80, 20], ORANGE)
    assert np.array_equal(drawn[:70, :70], GREEN_FIELD[:70, :70])
    nobody = draw_poses(GREEN_FIELD, [pose(keypoints=known * np.nan)], SQUARE)
    assert np.array_equal(nobody, GREEN_FIELD)


def test_own_and_other_points_differ_in_hue_and_shape():
    cue = Cue.points([(30, 50), (70, 50)], [1, -1])
    drawn = draw_cue(GREEN_FIELD, cue, zoom=4)
    assert drawn.shape == (400, 400, 3) and GREEN_FIELD[50, 30].tolist() == [40, 120, 40]
    for x, ink, upright, corner in ((122, GREEN, WHITE, (40, 120, 40)), (282, RED, RED, WHITE)):
        assert near(drawn[202, x], WHITE) and near(drawn[202, x + 5], WHITE), "a bar across"
        assert near(drawn[206, x], upright), "the bar upright makes the plus"
        assert near(drawn[202, x + 8], ink) and near(drawn[213, x + 11], corner)
    assert not near(drawn, BLUE).any() and not near(drawn, ORANGE).any()

    def painted(count):
        points = [(x, 50) for x in np.linspace(10, 90, count)]
        return (draw_cue(GREEN_FIELD, Cue.pose(points)) != GREEN_FIELD).any(-1).sum() / count

    assert painted(6) < 0.5 * painted(5), "a pose leaves more of the person to be seen"


def test_names_stand_above_their_places_and_inside():
    plain = np.full((120, 90, 3), 100, np.uint8)
    for place, low, high in (((40, 60), (33, 40), (48, 60)), ((-50, 900), (0, 100), (20, 120))):
        named = draw.draw_names(plain, "A", [place])
        rows, columns = np.nonzero((named != plain).any(2))
        assert low[0] <= columns.min() and columns.max() <= high[0], place
        assert low[1] <= rows.min() and rows.max() <= high[1], place
    assert (plain == 100).all()


def test_boxes_are_framed_and_masks_outlined():
    drawn = draw_cue(GREEN_FIELD, Cue.box((20, 30, 40, 50)), zoom=2)
    for y, x in ((61, 81), (161, 81), (100, 41), (100, 121)):  # in the middle of each side
        assert near(drawn[y - 1:y + 2, x - 1:x + 2], GREEN, 40).any()
    assert near(drawn[70:150, 50:110], GREEN_FIELD[0, 0], 0).all()
    assert near(drawn[:50], GREEN_FIELD[0, 0], 0).all()

    mask = np.zeros((100, 100))
    mask[30:80, 20:60] = 1
    drawn, outlined = (draw_cue(GREEN_FIELD, Cue.mask(mask), tint=t) for t in (0.45, 0))
    for picture in (drawn, outlined):
        assert near(picture[50, 20], GREEN, 0) and near(picture[50, 19], WHITE, 0)
        assert near(picture[29, 40], WHITE, 0) and near(picture[79, 40], GREEN, 0)
        assert near(picture[:20], GREEN_FIELD[0, 0], 0).all()
    tinted = GREEN_FIELD[0, 0] + 0.45 * (np.array(GREEN) - GREEN_FIELD[0, 0])
    assert near(drawn[40:70, 30:50], tinted, 1).all()
    assert near(outlined[40:70, 30:50], GREEN_FIELD[0, 0], 0).all()
    assert draw_cue(GREEN_FIELD, Cue.mask(mask), zoom=3).shape == (300, 300, 3)
    assert np.array_equal(draw_cue(GREEN_FIELD, Cue.none()), GREEN_FIELD)


@pytest.mark.parametrize("codec", ("quarter", "udp"))
def test_heatmaps_lie_where_the_codec_has_them(codec):
    size, edge = (64, 96), codec == "udp"
    pixels = torch.tensor([[14.0, 22.0], [1.0, 2.0]])  # of the heatmaps, 16 x 24
    points = pixels * torch.tensor([64 - edge, 96 - edge]) / torch.tensor([16 - edge, 24 - edge])
    maps = encode(points[None], size, 1.5, codec)[0] * torch.tensor([0.4, 0.2]).view(2, 1, 1)
    crop = np.full((96 * 4, 64 * 4, 3), 100, np.uint8)
    drawn = heatmap_overlay(crop, maps, codec).astype(int)
    assert near(drawn[180, 20], (75, 75, 75), 1), "grey where there is nothing"
    strength = (drawn - 75).sum(-1)
    first = np.stack(np.unravel_index(strength.argmax(), strength.shape))[::-1]
    assert np.abs(first - 4 * points[0].numpy()).max() <= 1
    assert near(drawn[*first[::-1]], 75 + 0.9 * (np.array(PURPLE) - 75), 12), "whatever its height"
    second = strength[:100, :100]
    place = np.stack(np.unravel_index(second.argmax(), second.shape))[::-1]
    assert np.abs(place - 4 * points[1].numpy()).max() <= 1
    assert abs(second.max() / strength.max() - 0.5) < 0.06, "half as high, half as strong"
    assert near(heatmap_overlay(crop, maps * 0), (75, 75, 75), 0).all()


def test_overlays_show_sign_and_strength():
    values = np.zeros((100, 100))
    values[:, :30], values[:, 70:] = 1, -1
    drawn = overlay(GREEN_FIELD, values, GREEN, strength=1.0)
    assert near(drawn[:, :30], GREEN, 0).all() and near(drawn[:, 70:], 255 - np.array(GREEN)).all()
    assert np.array_equal(drawn[:, 30:70], GREEN_FIELD[:, 30:70])
    small = overlay(GREEN_FIELD, np.full((5, 4), 0.5), (40, 220, 40), strength=1.0)
    assert near(small, (40, 170, 40), 1).all()
    assert np.array_equal(overlay(GREEN_FIELD, values * 9), overlay(GREEN_FIELD, values))


# --- hop strips -----------------------------------------------------------------------------------

BOX, AREA = (30, 20, 40, 70), 900.0
PICTURE = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)
MASK = np.zeros((100, 120))
MASK[30:80, 35:60] = 1
CUES = {"point": Cue.point(50, 40), "points": Cue.points([(50, 40), (60, 70)], [1, -1]),
        "box": Cue.box(BOX), "mask": Cue.mask(MASK), "none": Cue.none()}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = HintPose(hops=2, **SMALL)
    for layer in (model.final_layer, model.input_refinement.correct,
                  model.recurrent_refinement.update):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return model


def test_a_hop_strip_has_a_titled_panel_for_each_hop_with_its_oks(model):
    truth = np.column_stack([np.random.default_rng(1).uniform(30, 80, (17, 2)), np.full(17, 2)])
    truth[:3, 2] = 0
    figure = hop_strip(model, PICTURE, BOX, CUES["point"], truth, area=AREA, hops=4)
    found, = PoseEstimator(model, hops=4)(PICTURE, [BOX], [CUES["point"]])
    near_truth = oks(torch.tensor(found.by_hop), torch.tensor(truth, dtype=torch.float32),
                     torch.tensor(AREA), COCO17.sigmas)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [f"hop {i}, OKS {value:.2f}" for i, value in enumerate(near_truth, 1)]
    assert len(set(titles)) == 4 and len({title[-4:] for title in titles}) > 1
    panels = [axis.images[0].get_array() for axis in figure.axes]
    assert panels[0].shape == (384, 192, 3) and not np.array_equal(panels[0], panels[1])
    assert all(title in figure.get_label() for title in titles)
    assert "cue: points" in figure.get_label()
    assert_all_fits(figure)
    wide = HintPose(hops=2, **{**SMALL, "input_size": (96, 128)})
    assert_all_fits(hop_strip(wide, PICTURE, BOX))
    plain = hop_strip(model, PICTURE, BOX)
    assert [axis.get_title() for axis in plain.axes] == ["hop 1", "hop 2"]
    assert "cue: none" in plain.get_label()
    assumed = hop_strip(model, PICTURE, BOX, CUES["point"], truth).axes[0].get_title()
    assert assumed == hop_strip(model, PICTURE, BOX, CUES["point"], truth,
                                area=0.53 * 40 * 70).axes[0].get_title()


def test_the_panel_shows_the_pose_at_the_same_place_of_the_picture(model):
    seen = figures.look(model, PICTURE, torch.tensor([BOX]).float(), CUES["point"], COCO17)
    found, = PoseEstimator(model)(PICTURE, [BOX], [CUES["point"]])
    np.testing.assert_allclose(seen.points, found.by_hop, atol=1e-3)
    middle, scale = np.array([50, 55]), 384 / (1.25 * 80)  # 40 x 70 grows to 40 x 80
    for pose, points in zip(seen.poses, seen.points, strict=True):
        expected = (points.numpy() - middle) * scale + (96, 192)
        np.testing.assert_allclose(pose.keypoints, expected, atol=0.01)
    assert not model.training


@pytest.mark.parametrize("kind", CUES)
def test_a_cue_on_the_panel_is_the_cue_on_the_picture(kind):
    size, identity = (96, 192), torch.eye(2, 3)[None]
    matrix = crop_matrix(torch.tensor([[15.0, 5.0, 50.0, 100.0]]), size)
    moved = figures._moved(CUES[kind], matrix, size)
    assert moved.kind == CUES[kind].kind
    torch.testing.assert_close(render_cues([moved], identity, size, 8.0),
                               render_cues([CUES[kind]], matrix, size, 8.0), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", CUES)
def test_the_cue_is_drawn_on_the_strip(model, kind):
    with_cue, without = (hop_strip(model, PICTURE, BOX, cue).axes[0].images[0].get_array()
                         for cue in (CUES[kind], None))
    assert near(with_cue, GREEN, 2).any() == (kind != "none") and not near(without, GREEN, 2).any()
    assert near(with_cue, RED, 2).any() == (kind == "points")


def test_a_mask_beside_the_crop_is_no_mark():
    elsewhere = np.zeros((100, 120))
    elsewhere[:, 118:] = 1
    matrix = crop_matrix(torch.tensor([[0.0, 0.0, 50.0, 100.0]]), (32, 64))
    assert figures._moved(Cue.mask(elsewhere), matrix, (32, 64)).kind == "none"


def test_hop_strips_refuse_what_cannot_be_used(model):
    cueless = HintPose(cue=False, hops=1, **SMALL)
    for error, call in (
            (ConfigError, lambda: hop_strip(cueless, PICTURE, BOX, CUES["point"])),
            (ConfigError, lambda: hop_strip(cueless, PICTURE, BOX, hops=2)),
            (DataError, lambda: hop_strip(model, PICTURE, (30, 20, 0, 70))),
            (DataError, lambda: hop_strip(model, PICTURE, BOX, Cue.mask(np.eye(9)))),
            (DataError, lambda: hop_strip(model, PICTURE, BOX, Cue.point(-9, 0))),
            (DataError, lambda: hop_strip(model, PICTURE.astype(float), BOX))):
        with pytest.raises(error):
            call()


def test_people_have_a_frame_a_number_and_a_score_of_their_own():
    people = [pose(keypoints=pose().keypoints + shift) for shift in (0, 12)]
    for one in people:
        one.score = 0.5
    drawn = draw_people(GREEN_FIELD, people, SQUARE)
    plain = draw_poses(GREEN_FIELD, people, SQUARE)
    for colour in PEOPLE[:2]:
        assert near(drawn, colour, 3).sum() > near(plain, colour, 3).sum() + 20
    assert np.array_equal(draw_people(GREEN_FIELD, [], SQUARE), GREEN_FIELD)
