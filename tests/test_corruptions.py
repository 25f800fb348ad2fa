"""Corruptions: against values computed another way, seeded, and for every kind of image."""

import colorsys
import io
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy import ndimage
from sklearn.base import clone
from sklearn.datasets import load_sample_image
from sklearn.pipeline import make_pipeline

from sklearn_clipensemble import CLIPEmbedder, ZeroShotLogits
from sklearn_clipensemble.corruptions import CORRUPTIONS, Corruption
from sklearn_clipensemble.ensembles import ProbabilityAverage
from sklearn_clipensemble.images import decode, read
from sklearn_clipensemble.inspection import robustness

STRONGER = [
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "gaussian_blur"),
    *("defocus_blur", "motion_blur", "zoom_blur", "brightness", "contrast", "pixelate"),
    "jpeg_compression",
]


@pytest.fixture(scope="module")
def photo():
    image = Image.fromarray(load_sample_image("china.jpg")).resize((96, 64))
    return np.asarray(image)


def corrupt(image, name, severity=3, **options):
    return Corruption(name, severity, **options).transform([image])[0]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_image_keeps_its_size(name, photo):
    images = [
        photo,
        photo[:, :, 0],
        Image.fromarray(photo).convert("P"),
        np.dstack([photo, photo[:, :, 0]]),
        photo[:1, :1],
        photo[:2, :50],
        photo[:31, :3],
        np.zeros((8, 8), dtype=np.uint8),
        np.full((9, 7, 3), 255, dtype=np.uint8),
    ]
    for severity in range(1, 6):
        found = Corruption(name, severity).fit_transform(images)
        for image, corrupted in zip(images, found, strict=True):
            height, width = np.asarray(image).shape[:2]
            assert corrupted.shape == (height, width, 3)
            assert corrupted.dtype == np.uint8


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_draw_depends_on_the_image_and_the_seed_alone(name, photo):
    other = photo[::-1].copy()
    alone = corrupt(photo, name)
    assert np.array_equal(alone, Corruption(name).transform([other, photo])[1])
    assert np.array_equal(alone, corrupt(photo, name, random_state=0))
    if name in ("gaussian_noise", "fog", "motion_blur", "elastic_transform"):
        assert not np.array_equal(alone, corrupt(photo, name, random_state=1))


@pytest.mark.parametrize("name", STRONGER)
def test_severities_grow(name, photo):
    distances = [
        np.abs(corrupt(photo, name, severity).astype(float) - photo).mean()
        for severity in range(1, 6)
    ]
    assert distances == sorted(distances)
    assert distances[0] > 0


def test_the_image_itself_is_left_alone(photo):
    image = photo.copy()
    for name in CORRUPTIONS:
        corrupt(image, name)
    assert np.array_equal(image, photo)


def test_noise_has_the_stated_spread():
    grey = np.full((200, 200), 128, dtype=np.uint8)
    for severity, sd in enumerate((0.08, 0.12, 0.18), start=1):
        noise = corrupt(grey, "gaussian_noise", severity) / 255 - 128 / 255
        assert noise.std() == pytest.approx(sd, rel=0.03)
    shot = corrupt(grey, "shot_noise", 1) / 255
    assert shot.std() == pytest.approx(np.sqrt(128 / 255 / 60), rel=0.03)
    speckle = corrupt(grey, "speckle_noise", 1) / 255
    assert speckle.std() == pytest.approx(128 / 255 * 0.15, rel=0.03)
    impulse = corrupt(grey, "impulse_noise", 5)
    assert np.mean(impulse == 0) == pytest.approx(0.135, abs=0.005)
    assert np.mean(impulse == 255) == pytest.approx(0.135, abs=0.005)


def through_hsv(image, change):
    """Change an image in HSV, one pixel at a time."""
    found = np.empty(image.shape)
    for place in np.ndindex(image.shape[:2]):
        found[place] = colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*(image[place] / 255))))
    return found * 255


def test_brightness_and_saturation_are_those_of_hsv(photo):
    small = np.vstack([photo[:20, :20], np.zeros((1, 20, 3), np.uint8)])
    small[0] = 77  # greys have no hue
    brighter = through_hsv(small, lambda h, s, v: (h, s, min(v + 0.3, 1)))
    assert np.abs(corrupt(small, "brightness", 3) - brighter).max() < 1.001
    for severity, factor, plus in ((1, 0.3, 0), (2, 0.1, 0), (3, 2, 0), (4, 5, 0.1), (5, 20, 0.2)):
        changed = through_hsv(small, lambda h, s, v: (h, min(s * factor + plus, 1), v))  # noqa: B023
        assert np.abs(corrupt(small, "saturate", severity) - changed).max() < 1.001


def test_contrast_shrinks_around_the_mean(photo):
    x = photo / 255
    mean = x.mean(axis=(0, 1))
    expected = ((x - mean) * 0.1 + mean) * 255
    assert np.abs(corrupt(photo, "contrast", 4) - expected).max() < 1.001


def test_blurs(photo):
    x = photo / 255
    scale = 64 / 224
    expected = ndimage.gaussian_filter(x, (4 * scale, 4 * scale, 0), mode="nearest") * 255
    assert np.abs(corrupt(photo, "gaussian_blur", 4) - expected).max() < 1.001
    # A point becomes a disk of the stated area and a stroke of the stated length.
    point = np.zeros((225, 225), dtype=np.uint8)
    point[112, 112] = 255
    disk = corrupt(point, "defocus_blur", 1)[:, :, 0]
    assert disk[112, 112] == int(255 / (np.pi * 3**2) * 0.98)
    assert np.count_nonzero(disk) == pytest.approx(np.pi * 3**2, abs=10)
    stroke = np.argwhere(corrupt(point, "motion_blur", 1)[:, :, 0])
    reach = np.hypot(*(stroke - 112).T).max()
    # With a spread of 3 pixels, the last visible part of 255 is 8 to 11 away.
    assert 7 < reach < 12
    assert np.abs(stroke[:, 0] - 112).max() <= np.abs(stroke[:, 1] - 112).max()


def test_lengths_scale_with_the_image(photo):
    large = np.asarray(Image.fromarray(photo).resize((384, 256), Image.Resampling.BICUBIC))
    for name in ("gaussian_blur", "defocus_blur", "zoom_blur"):
        from_large = Image.fromarray(corrupt(large, name, 5)).resize((96, 64), Image.Resampling.BOX)
        difference = np.asarray(from_large).astype(float) - corrupt(photo, name, 5)
        assert np.abs(difference).mean() < 2.5


def test_pixelate_and_jpeg(photo):
    blocks = corrupt(photo, "pixelate", 5)
    assert len(np.unique(blocks.reshape(-1, 3), axis=0)) <= 24 * 16
    assert np.array_equal(blocks[0, 0], blocks[3, 3])
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=7)
    assert np.array_equal(corrupt(photo, "jpeg_compression", 5), np.asarray(Image.open(file)))


def test_fog_hides_and_never_darkens_white():
    black = np.zeros((64, 64, 3), dtype=np.uint8)
    black[0, 0] = 255
    foggy = corrupt(black, "fog", 1) / 255
    # Full haze on black is 1.5 / (1 + 1.5); none is 0.
    assert foggy[1:].max() == pytest.approx(0.6, abs=0.005)
    assert foggy[1:].min() == pytest.approx(0.0, abs=0.005)
    assert np.ptp(foggy, axis=2).max() == 0


def test_elastic_moves_little_at_high_severities(photo):
    ramp = np.tile(np.arange(224, dtype=np.uint8), (224, 1))
    moved = corrupt(ramp, "elastic_transform", 3)[40:-40, 40:-40, 0].astype(float)
    shift = moved - ramp[40:-40, 40:-40]
    # Smoothed noise of about 0.8 pixels, and an affine map of up to about 5.
    assert 0.2 < shift.std() < 4
    assert np.abs(shift).max() < 20


def test_rotations_flips_and_grey(photo):
    assert np.array_equal(corrupt(photo, "horizontal_flip"), photo[:, ::-1])
    assert np.array_equal(corrupt(photo, "vertical_flip"), photo[::-1])
    grey = corrupt(photo, "greyscale")
    assert np.array_equal(grey[:, :, 0], np.asarray(Image.fromarray(photo).convert("L")))
    square = photo[:, :64]
    turned = corrupt(square, "rotate", 5).astype(float)
    apart = [np.abs(turned - np.rot90(square, k)).max() for k in (1, 3)]
    assert min(apart) < 1.001


def test_it_is_a_transformer():
    step = Corruption("fog", severity=2, random_state=7)
    params = {"name": "fog", "severity": 2, "random_state": 7, "exif_transpose": True}
    assert clone(step).get_params() == params
    for wrong in (
        {"name": "frost"},
        {"severity": 0},
        {"severity": 6},
        {"random_state": None},
        {"exif_transpose": "yes"},
    ):
        with pytest.raises(ValueError, match=f"The '{next(iter(wrong))}' parameter"):
            Corruption(**wrong).fit([])


def test_bad_images_are_named(tmp_path, photo):
    path = tmp_path / "note.jpg"
    path.write_text("no picture")
    with pytest.raises(ValueError, match=r"Image 1 .*note.jpg.*not an image"):
        Corruption().transform([photo, path])
    missing = tmp_path / "missing.jpg"
    for source, kind, words in [
        (missing, FileNotFoundError, f"{str(missing)!r}): No such file"),
        (tmp_path, (IsADirectoryError, PermissionError), f"{str(tmp_path)!r}): "),
        (b"", ValueError, ": the file is empty"),
        (None, ValueError, ": there is no image here"),
        (7, TypeError, ": cannot read an image from int"),
        ("s3://bucket/1.png", ValueError, "this is a URL"),
        (Broken(), ValueError, ": ZeroDivisionError: a client's own"),
    ]:
        with pytest.raises(kind) as caught:
            Corruption().transform([photo, source])
        assert str(caught.value).startswith("Image 1")
        assert words in str(caught.value)
    with pytest.raises(OSError, match=r"^Image 0: the drive was pulled"):
        Corruption().transform(Pulled())


class Broken:
    def read(self):
        raise ZeroDivisionError("a client's own")


class Pulled(Sequence):
    """A sequence that reads as it is asked, and fails."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise OSError("the drive was pulled")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_corrupted_upright(photo, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "PNG", exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(file)))
    found = corrupt(file.getvalue(), "pixelate")
    assert np.array_equal(found, corrupt(upright, "pixelate"))
    as_stored = corrupt(file.getvalue(), "pixelate", exif_transpose=False)
    assert np.array_equal(as_stored, corrupt(photo, "pixelate"))


def test_robustness_turns_images_as_the_estimator_does(photo):
    """An estimator that takes pictures as stored is tested on such, corrupted."""
    exif = Image.Exif()
    exif[0x0112] = 6
    files = []
    for image in (photo, photo[:, ::-1], photo[::-1], photo[:32]):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG", exif=exif)
        files.append(file.getvalue())
    seen = []

    class Spy(CLIPEmbedder):
        def transform(self, X):
            seen.append([np.asarray(decode(read(x)[1], exif_transpose=False)).shape for x in X])
            return super().transform(X)

    for turn in (True, False):
        embedder = Spy("tiny/RN-1221", exif_transpose=turn)
        clf = make_pipeline(embedder, ZeroShotLogits(["a", "b"]), ProbabilityAverage())
        clf.fit(files, ["a", "b"] * 2)
        seen.clear()
        robustness(clf, files, ["a", "b"] * 2, corruptions=["horizontal_flip"])
        assert seen[-1][0] == ((96, 64, 3) if turn else (64, 96, 3))
