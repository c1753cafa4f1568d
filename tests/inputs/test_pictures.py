"""Pictures of every kind become the same uint8 RGB, masks become bool, bad files say so."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as rle

from hintpose_lite.errors import DataError
from hintpose_lite.inputs.masks import decode_mask
from hintpose_lite.inputs.pictures import as_picture, read_picture

WIDTH, HEIGHT = 7, 5
EXIF_ORIENTATION = 0x0112
# What a viewer does to a stored picture for each EXIF orientation (TIFF 6.0, tag 274).
TURNS = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
         5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1),
         7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: lambda a: np.rot90(a)}


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def saved(path, picture, **options):
    picture.save(path, **options)
    return path


def test_rgb_is_unchanged_and_writable(tmp_path, pixels):
    picture = read_picture(saved(tmp_path / "a.png", Image.fromarray(pixels)))
    assert picture.dtype == np.uint8 and picture.flags.writeable
    np.testing.assert_array_equal(picture, pixels)


@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_is_applied(tmp_path, pixels, orientation):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    path = saved(tmp_path / "a.png", Image.fromarray(pixels), exif=exif)
    expected = TURNS[orientation](pixels)
    np.testing.assert_array_equal(read_picture(path), expected)
    np.testing.assert_array_equal(read_picture(path, expected.shape[1::-1]), expected)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_annotations_of_the_unturned_picture_keep_it_unturned(tmp_path, pixels, orientation):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    path = saved(tmp_path / "a.png", Image.fromarray(pixels), exif=exif)
    np.testing.assert_array_equal(read_picture(path, [WIDTH, HEIGHT]), pixels)


def test_a_size_of_neither_orientation_is_refused_with_both_sizes(tmp_path, pixels):
    path = saved(tmp_path / "a.png", Image.fromarray(pixels))
    with pytest.raises(DataError, match=r"a\.png"):
        read_picture(path, (8, 5))


@pytest.mark.parametrize("extension", ["png", "jpg", "tif"])
def test_grey(tmp_path, pixels, extension):
    path = saved(tmp_path / f"a.{extension}", Image.fromarray(pixels[:, :, 0]))
    picture = read_picture(path)
    assert picture.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(picture[..., 0], picture[..., 2])
    assert np.abs(picture[..., 0].astype(int) - pixels[..., 0]).max() <= (extension == "jpg") * 60


def test_black_and_white(tmp_path):
    bits = np.array([[True, False], [False, True]])
    picture = read_picture(saved(tmp_path / "a.png", Image.fromarray(bits)))
    np.testing.assert_array_equal(picture[..., 1], bits * 255)


@pytest.mark.parametrize("extension", ["jpg", "tif"])
def test_cmyk(tmp_path, extension):
    color = (200, 40, 90)  # printed as the complement, without black
    cmyk = Image.new("CMYK", (8, 8), tuple(255 - c for c in color) + (0,))
    picture = read_picture(saved(tmp_path / f"a.{extension}", cmyk))
    assert np.abs(picture.astype(int) - color).max() <= 3


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparency_is_laid_on_white(tmp_path, mode):
    left, right = Image.new("RGBA", (2, 2), (90, 90, 90, 255)), (10, 10, 10, 0)
    left.paste(right, (1, 0, 2, 2))
    options = {}
    if mode == "RGB":  # a single colour that counts as transparent
        left, options = left.convert("RGB"), {"transparency": (10, 10, 10)}
    elif mode == "P":
        left = Image.fromarray(np.array([[0, 1], [0, 1]], np.uint8), "L")
        left.putpalette([90, 90, 90, 10, 10, 10])
        options = {"transparency": 1}
    else:
        left = left.convert(mode)
    picture = read_picture(saved(tmp_path / "a.png", left, **options))
    assert picture[:, 0].tolist() == [[90] * 3] * 2
    assert picture[:, 1].tolist() == [[255] * 3] * 2


def test_half_transparent_is_mixed_with_white(tmp_path):
    path = saved(tmp_path / "a.png", Image.new("RGBA", (2, 2), (0, 100, 200, 51)))
    assert np.abs(read_picture(path)[0, 0].astype(int) - (204, 224, 244)).max() <= 1


def test_palette(tmp_path):
    picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "L")
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    path = saved(tmp_path / "a.gif", picture)
    assert read_picture(path)[0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, extension):
    values = np.array([[0, 128, 129, 257, 32896, 65407, 65535]], np.uint16)
    path = saved(tmp_path / f"a.{extension}", Image.fromarray(values))
    assert read_picture(path)[0, :, 1].tolist() == [0, 0, 1, 1, 128, 255, 255]


def test_16_bit_grey_is_turned_too(tmp_path):
    values = np.arange(6, dtype=np.uint16).reshape(2, 3) * 257
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    path = saved(tmp_path / "a.png", Image.fromarray(values), exif=exif)
    np.testing.assert_array_equal(read_picture(path)[..., 0], np.rot90(values // 257, -1))


def test_32_bit_grey_is_read_only_where_it_fits_16_bits(tmp_path):
    path = saved(tmp_path / "a.tif", Image.fromarray(np.array([[0, 65535]], np.int32)))
    assert read_picture(path)[0, :, 0].tolist() == [0, 255]
    path = saved(tmp_path / "b.tif", Image.fromarray(np.array([[0, 65536]], np.int32)))
    with pytest.raises(DataError, match=r"b\.tif"):
        read_picture(path)


def test_floating_point_is_refused(tmp_path):
    path = saved(tmp_path / "a.tif", Image.fromarray(np.zeros((2, 2), np.float32)))
    with pytest.raises(DataError):
        read_picture(path)


def test_animations_give_their_first_frame(tmp_path):
    frames = [Image.new("RGB", (2, 2), color) for color in ("red", "blue")]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert read_picture(path)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("content", [b"", b"no picture at all", b"\xff\xd8\xff\xe0", b"\x89PNG"])
def test_what_is_no_picture(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.jpg"):
        read_picture(path)


def test_a_closed_image_is_refused(tmp_path, pixels):
    with Image.open(saved(tmp_path / "a.png", Image.fromarray(pixels))) as picture:
        pass
    with pytest.raises(DataError):
        as_picture(picture)


def test_missing_picture_and_folder(tmp_path):
    with pytest.raises(DataError, match=r"nobody\.jpg"):
        read_picture(tmp_path / "nobody.jpg")
    with pytest.raises(DataError):
        read_picture(tmp_path)


@pytest.mark.parametrize("extension", ["jpg", "png", "tif", "gif"])
def test_cut_off_pictures(tmp_path, extension):
    noise = np.random.default_rng(1).integers(0, 256, (60, 60, 3), np.uint8)
    path = saved(tmp_path / f"a.{extension}", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    with pytest.raises(DataError):
        read_picture(path)


@pytest.mark.parametrize("extension", ["jpg", "png"])
def test_damaged_pictures_raise_nothing_else(tmp_path, extension):
    random = np.random.default_rng(2)
    original = saved(tmp_path / f"a.{extension}", Image.new("RGB", (16, 16), "teal")).read_bytes()
    path = tmp_path / f"b.{extension}"
    for _ in range(200):
        damaged = bytearray(original)
        for place in random.integers(0, len(damaged), 4):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        try:
            assert read_picture(path, (16, 16)).shape == (16, 16, 3)
        except DataError as error:
            assert str(path) in str(error)


def test_decompression_bombs(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png", Image.new("L", (100, 100)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match="DecompressionBomb"):
        read_picture(path)


masks = st.integers(1, 12).flatmap(lambda width: st.lists(
    st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=12))


@settings(deadline=None, max_examples=60)
@given(masks)
def test_rle_masks_come_back(rows):
    mask = np.array(rows)
    height, width = mask.shape
    packed = rle.encode(np.asfortranarray(mask, np.uint8))
    packed["counts"] = packed["counts"].decode()
    np.testing.assert_array_equal(decode_mask(packed, width, height), mask)
    # Uncompressed counts, counted by hand: run lengths down the columns, a run of zeros first.
    column, runs, value = mask.T.reshape(-1), [0], False
    for pixel in column:
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    plain = {"size": [height, width], "counts": runs}
    np.testing.assert_array_equal(decode_mask(plain, width, height), mask)
    assert plain == {"size": [height, width], "counts": runs}


def test_polygons():
    square = [2, 1, 6, 1, 6, 4, 2, 4]
    mask = decode_mask([square], 10, 8)
    assert mask.shape == (8, 10) and mask.dtype == bool
    expected = np.zeros((8, 10), bool)
    expected[1:4, 2:6] = True
    np.testing.assert_array_equal(mask, expected)
    both = decode_mask([square, [7, 5, 9, 5, 9, 7, 7, 7], [0, 0, 3, 3]], 10, 8)
    expected[5:7, 7:9] = True
    np.testing.assert_array_equal(both, expected)


@pytest.mark.parametrize("nothing", [None, [], [[]], [[1, 2, 3, 4]]])
def test_no_mask(nothing):
    assert decode_mask(nothing, 5, 4) is None


@pytest.mark.parametrize("damaged", [
    {}, {"size": [4, 5]}, {"counts": [20]}, {"size": [5, 4], "counts": [20]},
    {"size": [4, 5], "counts": [19]}, {"size": [4, 5], "counts": [30, -10]},
    {"size": [4, 5], "counts": [10.5, 9.5]}, {"size": [4, 5], "counts": []},
    {"size": [4, 5], "counts": ""}, {"size": [4, 5], "counts": "zzzz"},
    {"size": [4, 5], "counts": "<X"},  # 12 zeros and, by an unfinished number, 8 ones
    {"size": [4, 5], "counts": [10**15]},
    {"size": [4, 5], "counts": 3}, {"size": [4, 5], "counts": [1, "a"]},
    [0, 0, 3, 0, 3, 3], [[0, 0, 3, 0, 3, 3, 1]], [[0, 0, 3, 0, float("nan"), 3]],
    [[0, 0, 1e30, 0, 3, 3]], [[[0, 0], [3, 0], [3, 3], [0, 3], [0, 2], [0, 1]]], 7, "mask"])
def test_damaged_segmentations(damaged):
    with pytest.raises((ValueError, TypeError)):
        decode_mask(damaged, 5, 4)


def test_cut_off_rle_strings():
    mask = np.random.default_rng(3).random((40, 40)) < 0.5
    packed = rle.encode(np.asfortranarray(mask, np.uint8))
    for length in range(0, len(packed["counts"]) - 1, 37):
        with pytest.raises((ValueError, TypeError)):
            decode_mask({**packed, "counts": packed["counts"][:length].decode()}, 40, 40)
