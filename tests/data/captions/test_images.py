import numpy as np
import pytest
from PIL import Image

from attendgen.data.captions.images import augment, open_image, to_pixels, to_rgb
from attendgen.utils.errors import UserError

HEIGHT, WIDTH = 24, 32


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def reopen(image: Image.Image, path, **options) -> np.ndarray:
    image.save(path, **options)
    opened = open_image(path)
    assert opened.mode == "RGB"
    return np.asarray(opened)


def test_rgb_stays_the_same(rgb, tmp_path):
    np.testing.assert_array_equal(reopen(Image.fromarray(rgb), tmp_path / "x.png"), rgb)


def test_gray_fills_the_three_channels(rgb, tmp_path):
    gray = rgb[..., 0]
    np.testing.assert_array_equal(reopen(Image.fromarray(gray), tmp_path / "x.png"), np.stack([gray] * 3, axis=-1))


def test_bilevel_is_black_and_white(rgb, tmp_path):
    white = rgb[..., 0] > 127
    pixels = reopen(Image.fromarray(white), tmp_path / "x.png")
    np.testing.assert_array_equal(pixels, np.stack([255 * white] * 3, axis=-1))


def blend_on_white(color: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    share = opacity.astype(float)[..., None] / 255
    return color * share + 255 * (1 - share)


def test_transparent_gray_is_blended_on_white(rgb, tmp_path):
    gray, opacity = rgb[..., 0], rgb[..., 1]
    image = Image.merge("LA", [Image.fromarray(gray), Image.fromarray(opacity)])
    expected = blend_on_white(np.stack([gray] * 3, axis=-1), opacity)
    np.testing.assert_allclose(reopen(image, tmp_path / "x.png"), expected, atol=1)


def test_transparent_color_is_blended_on_white(rgb, tmp_path):
    opacity = rgb[::-1, :, 1].copy()
    opacity[0], opacity[1] = 0, 255
    image = Image.fromarray(np.dstack([rgb, opacity]))
    assert image.mode == "RGBA"
    pixels = reopen(image, tmp_path / "x.png")
    np.testing.assert_allclose(pixels, blend_on_white(rgb, opacity), atol=1)
    assert (pixels[0] == 255).all()
    np.testing.assert_array_equal(pixels[1], rgb[1])


@pytest.mark.parametrize(("suffix", "transparency"), [("png", 2), ("gif", 2), ("png", bytes([255, 0, 128, 255]))])
def test_transparent_palette_is_blended_on_white(rgb, tmp_path, suffix, transparency):
    index = rgb[..., 0] // 64
    palette = np.array([[200, 10, 10], [10, 200, 10], [10, 10, 200], [90, 90, 0]], dtype=np.uint8)
    image = Image.fromarray(index)
    image.putpalette(palette.tobytes())
    assert image.mode == "P"
    opacity = np.full(4, 255, dtype=np.uint8)
    if isinstance(transparency, int):
        opacity[transparency] = 0
    else:
        opacity[:] = list(transparency)
    pixels = reopen(image, tmp_path / f"x.{suffix}", transparency=transparency)
    np.testing.assert_allclose(pixels, blend_on_white(palette[index], opacity[index]), atol=1)


def test_16_bit_gray_is_scaled_not_clipped(rgb, tmp_path):
    ramp = np.linspace(0, 65535, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    image = Image.fromarray(ramp.astype(np.uint16))
    assert image.mode == "I;16"
    pixels = reopen(image, tmp_path / "x.png")
    np.testing.assert_allclose(pixels, np.stack([ramp / 257] * 3, axis=-1), atol=1)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_gray_is_scaled(dtype, tmp_path):
    ramp = np.linspace(-1000, 1000, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(dtype)
    pixels = reopen(Image.fromarray(ramp), tmp_path / "x.tiff")
    np.testing.assert_allclose(pixels[..., 0], (ramp.astype(float) + 1000) * 255 / 2000, atol=1)


@pytest.mark.parametrize("missing", [np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("error")
def test_a_pixel_without_a_value_does_not_change_the_others(missing, tmp_path):
    ramp = np.linspace(-1, 1, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.float32)
    ramp[3, 4] = missing
    pixels = reopen(Image.fromarray(ramp), tmp_path / "x.tiff")
    expected = (ramp.astype(float) + 1) * 255 / 2
    expected[3, 4] = 255 if missing == np.inf else 0
    np.testing.assert_allclose(pixels[..., 0], expected, atol=1)
    assert reopen(Image.fromarray(np.full_like(ramp, missing)), tmp_path / "y.tiff").min() >= 0


def test_cmyk_becomes_rgb(tmp_path):
    ink = np.zeros((HEIGHT, WIDTH, 4), dtype=np.uint8)
    ink[:, :10, 0], ink[:, 10:20, 1], ink[:, 20:, 3] = 255, 255, 128
    image = Image.frombytes("CMYK", (WIDTH, HEIGHT), ink.tobytes())
    pixels = reopen(image, tmp_path / "x.tiff")
    expected = (255 - ink[..., :3].astype(float)) * (255 - ink[..., 3:].astype(float)) / 255
    np.testing.assert_allclose(pixels, expected, atol=1)


# the upright image of a stored one, by EXIF orientation
UPRIGHT = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: np.rot90(p),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_exif_orientation_is_applied(rgb, tmp_path, orientation, suffix):
    path = tmp_path / f"x.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(rgb).save(path, exif=exif)
    with Image.open(path) as stored:
        expected = UPRIGHT[orientation](np.asarray(stored.convert("RGB")))
    np.testing.assert_array_equal(np.asarray(open_image(path)), expected)


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tiff", "webp"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95])
def test_truncated_image_is_refused(rgb, tmp_path, suffix, share):
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(rgb).save(path)
    open_image(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=rf"x\.{suffix}: (corrupt or truncated|not an image)"):
        open_image(path)


def test_image_of_too_many_pixels_is_refused(rgb, tmp_path, monkeypatch):
    Image.fromarray(rgb).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH // 3)  # Pillow refuses more than twice as many
    with pytest.raises(UserError, match=r"x\.png: too large .*save it smaller"):
        open_image(tmp_path / "x.png")


def test_file_that_is_not_an_image_is_refused(tmp_path):
    (tmp_path / "x.jpg").write_text("<html>404</html>")
    with pytest.raises(UserError, match=r"x\.jpg: not an image"):
        open_image(tmp_path / "x.jpg")
    with pytest.raises(UserError, match=r"absent\.jpg: no such image"):
        open_image(tmp_path / "absent.jpg")
    with pytest.raises(UserError, match="directory"):
        open_image(tmp_path)


def test_decompression_bomb_is_refused(rgb, tmp_path, monkeypatch):
    Image.fromarray(rgb).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(UserError, match=r"x\.png: .*decompression bomb"):
        open_image(tmp_path / "x.png")


def test_pixels_are_bytes_with_channels_first(rgb):
    square = rgb[:, :HEIGHT]
    pixels = to_pixels(Image.fromarray(square), HEIGHT)
    assert pixels.is_contiguous()
    np.testing.assert_array_equal(pixels.numpy(), square.transpose(2, 0, 1))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 5)])
def test_image_of_any_shape_becomes_a_square_of_the_whole_image(size):
    halves = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    halves[:, size[0] // 2 :] = 255
    pixels = to_pixels(to_rgb(Image.fromarray(halves)), 16)
    assert pixels.shape == (3, 16, 16)
    assert pixels[:, :, -1].min() == 255
    if size[0] > 1:
        assert pixels[:, :, 0].max() == 0


def test_real_images_open(shared):
    folder = shared / "data/coco_mini/val2017"
    paths = sorted(folder.iterdir())[:10]
    assert len(paths) == 10
    for path in paths:
        assert to_pixels(open_image(path), 64).float().std() > 0


def test_view_0_is_the_image_and_view_1_its_mirror_image(rgb):
    image = Image.fromarray(rgb)
    np.testing.assert_array_equal(np.asarray(augment(image, 0, "x.png")), rgb)
    np.testing.assert_array_equal(np.asarray(augment(image, 1, "x.png")), rgb[:, ::-1])


def test_further_views_are_crops_of_most_of_the_image():
    # each pixel encodes its place: red is its row, green its column
    rows, columns = np.mgrid[:200, :250]
    image = Image.fromarray(np.dstack([rows, columns, rows]).astype(np.uint8))
    seen = set()
    for view in range(2, 10):
        for name in map(str, range(40)):
            pixels = np.asarray(augment(image, view, name)).astype(int)
            np.testing.assert_array_equal(pixels, np.asarray(augment(image, view, name)))
            top, bottom = pixels[0, 0, 0], pixels[-1, 0, 0]
            left, right = pixels[0, [0, -1], 1]
            assert (left > right) == view % 2
            height, width = bottom - top + 1, abs(right - left) + 1
            assert pixels.shape[:2] == (height, width)  # no row or column is missing
            assert height * width >= 0.74 * 200 * 250
            assert 0.88 <= height / width * 250 / 200 <= 1.13
            seen.add((top, bottom, min(left, right), max(left, right)))
    assert len(seen) > 300
    assert {edges[0] for edges in seen} >= set(range(5))
    assert max(edges[3] for edges in seen) == 249


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_exif_block_costs_the_rotation_alone(tmp_path):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4), "red").save(path, exif=exif)
    assert open_image(path).size == (4, 8)
    data = path.read_bytes()
    at = data.index(b"Exif\0\0") + 6
    for damaged in (b"XX" + data[at + 2 :], data[at : at + 4] + b"\xff\xff\xff\x7f" + data[at + 8 :]):
        path.write_bytes(data[:at] + damaged)
        assert open_image(path).size in {(8, 4), (4, 8)}
