"""Real image files, damaged in thousands of ways: pixels or a clear error, at the right row."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from sklearn_clipensemble import CLIPEmbedder
from sklearn_clipensemble.images import Geometry, decode, read

N_PER_FILE = 450
GEOMETRY = Geometry(32, 32)


def real_files():
    """The two sample photographs in every common format; 12 files."""
    files = {}
    for name, photo in zip(["temple", "flower"], load_sample_images().images, strict=True):
        image = Image.fromarray(photo).resize((96, 64))
        exif = Image.Exif()
        exif[0x0112] = 6
        for kind, options in {
            "JPEG": {"exif": exif},
            "PNG": {},
            "GIF": {},
            "WEBP": {},
            "BMP": {},
            "TIFF": {"compression": "tiff_lzw"},
        }.items():
            buffer = io.BytesIO()
            image.save(buffer, kind, **options)
            files[f"{name}.{kind}"] = buffer.getvalue()
    return files


def mutate(file, others, rng):
    """Damage a file as disks, networks and careless programs do."""
    data = bytearray(file)
    n = len(data)
    at = int(rng.integers(n))
    # Half of the time near the start, where the headers are.
    at = at if rng.random() < 0.5 else at % min(n, 200)
    length = int(rng.integers(1, 64))
    match rng.integers(9):
        case 0:  # bits flip
            for position in rng.integers(n, size=int(rng.integers(1, 12))):
                data[position] ^= 1 << int(rng.integers(8))
        case 1:  # a byte becomes an extreme
            data[at] = int(rng.choice([0, 1, 127, 128, 255]))
        case 2:  # the end is missing
            del data[at:]
        case 3:  # the start is missing
            del data[:length]
        case 4:  # a block was never written
            data[at : at + length * 8] = bytes(len(data[at : at + length * 8]))
        case 5:  # a block is noise
            noise = rng.integers(256, size=len(data[at : at + length]), dtype=np.uint8)
            data[at : at + length] = noise.tobytes()
        case 6:  # a block is there twice
            data[at:at] = data[at : at + length]
        case 7:  # a block is lost
            del data[at : at + length]
        case _:  # another file continues this one
            other = others[int(rng.integers(len(others)))]
            data[at:] = other[at : at + n]
    return bytes(data)


@pytest.fixture(scope="module")
def mutants():
    files = list(real_files().values())
    rng = np.random.default_rng(0)
    return [mutate(file, files, rng) for file in files for _ in range(N_PER_FILE)]


def outcome(file, *, exif_transpose=False, draft=None):
    """Pixels, or the message of a ValueError; anything else is a failure of the test."""
    try:
        content = read(file, exif_transpose=exif_transpose)[1]
        image = decode(content, exif_transpose=exif_transpose, draft=draft)
        return GEOMETRY.apply(image, fast=draft is not None)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("options", [{}, {"exif_transpose": True, "draft": 64}])
def test_every_mutant_gives_pixels_or_a_clear_error(mutants, options):
    assert len(mutants) > 5000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata
        outcomes = [outcome(file, **options) for file in mutants]
    errors = [o for o in outcomes if isinstance(o, str)]
    decoded = [o for o in outcomes if not isinstance(o, str)]
    # Both ways must have been walked for the test to mean something.
    assert len(errors) > 1000
    assert len(decoded) > 1000
    for pixels in decoded:
        assert pixels.shape == (32, 32, 3)
        assert pixels.dtype == np.uint8
    starts = (
        "the file is ",
        "not an image",
        "a HEIC image",
        "Image size (",
        "a 32-bit image",
        "a float",
    )
    odd = [e for e in errors if not e.startswith(starts)]
    assert not odd, odd[:3]


def test_rows_never_move(mutants):
    """Whole images between damaged ones keep their rows, and NaN stands where damage was."""
    whole = [np.full((8, 8), grey, np.uint8) for grey in range(60)]
    damaged = mutants[:: len(mutants) // 240][:240]
    X = [image for i, grey in enumerate(whole) for image in (grey, *damaged[4 * i : 4 * i + 4])]
    embedder = CLIPEmbedder(["tiny/RN-1221"], on_error="nan", batch_size=32, precision="fp32")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = embedder.fit_transform(X).to_numpy()
        bad = np.array([isinstance(outcome(x), str) for x in X])
    np.testing.assert_array_equal(np.isnan(table).all(axis=1), bad)
    np.testing.assert_array_equal(np.isnan(table).any(axis=1), bad)
    alone = embedder.transform(whole).to_numpy()
    np.testing.assert_allclose(table[::5], alone, atol=1e-5)
    ours = [str(w.message) for w in caught if "could not be read" in str(w.message)]
    assert len(ours) == 1
    assert ours[0].startswith(f"{bad.sum()} of {len(X)} images could not be read")
    assert f"Image {np.flatnonzero(bad)[0]}: " in ours[0]
