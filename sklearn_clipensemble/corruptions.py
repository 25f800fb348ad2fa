"""Seeded perturbations of images, in the convention of ImageNet-C.

Every function takes an image, a severity from 1 to 5 and a random generator,
and returns a uint8 RGB array of the same size. The severities are those of
ImageNet-C [1]_, which were chosen for a shorter side of 224 pixels. Lengths in
pixels (blurs, displacements) are scaled to the image: a blur of 6 pixels at 224
is one of 0.86 pixels at 32, the same share of the picture. Noise, pixelation
and JPEG act on the image's own pixels and blocks and are not scaled, so they do
more to a small picture. Corrupt images at the size at which the backbone sees
them: noise on a large photograph is gone once it is shrunk.

The families of ImageNet-C that need pictures from elsewhere (frost), OpenCV or
ImageMagick bit by bit (snow, spatter, glass blur) are left out. The draws are
not those of the published files; the distributions are.

References
----------
.. [1] D. Hendrycks and T. Dietterich, "Benchmarking Neural Network Robustness
   to Common Corruptions and Perturbations", ICLR 2019.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from numbers import Integral

import numpy as np
from PIL import Image
from scipy import ndimage, signal
from sklearn.base import BaseEstimator, TransformerMixin

from sklearn_clipensemble._compat import Interval, StrOptions, documented
from sklearn_clipensemble.images import as_sources, load

__all__ = ["CORRUPTIONS", "Corruption"]

#: The shorter side for which ImageNet-C chose its severities.
_SIDE = 224


def _to_unit(image) -> np.ndarray:
    """Return an image as an RGB array of floats in [0, 1]."""
    return np.asarray(image.convert("RGB"), dtype=np.float64) / 255


def _to_bytes(pixels: np.ndarray) -> np.ndarray:
    """Return floats in [0, 1] as uint8, cutting off what is beyond."""
    # ImageNet-C cuts the fraction off where it saves; so that severities agree, so do we.
    return (np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def _scale(pixels: np.ndarray) -> float:
    return min(pixels.shape[:2]) / _SIDE


# Noise


def gaussian_noise(image, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Add normal noise of standard deviation 0.08 to 0.38."""
    x = _to_unit(image)
    return _to_bytes(x + rng.normal(size=x.shape) * (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1])


def shot_noise(image, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Count photons: Poisson noise with 60 to 3 photons for white."""
    photons = (60, 25, 12, 5, 3)[severity - 1]
    return _to_bytes(rng.poisson(_to_unit(image) * photons) / photons)


def impulse_noise(image, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Set 3 to 27 % of the values to black or white."""
    x = _to_unit(image)
    hit = rng.random(x.shape) < (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    return _to_bytes(np.where(hit, rng.random(x.shape) < 0.5, x))


def speckle_noise(image, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Multiply with normal noise of standard deviation 0.15 to 0.6 around one."""
    x = _to_unit(image)
    return _to_bytes(x + x * rng.normal(size=x.shape) * (0.15, 0.2, 0.35, 0.45, 0.6)[severity - 1])


# Blur


def gaussian_blur(image, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Blur with a normal kernel of 1 to 6 pixels at a side of 224."""
    x = _to_unit(image)
    sigma = (1, 2, 3, 4, 6)[severity - 1] * _scale(x)
    return _to_bytes(ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="nearest"))


def defocus_blur(image, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Blur with a disk of radius 3 to 10 pixels at a side of 224."""
    x = _to_unit(image)
    radius = (3, 4, 6, 8, 10)[severity - 1] * _scale(x)
    along = np.arange(-int(np.ceil(radius)), int(np.ceil(radius)) + 1)
    # The share of each pixel inside the disk, so that a radius may be a fraction.
    return _convolve(x, np.clip(radius + 0.5 - np.hypot(along[:, None], along), 0, 1))


def motion_blur(image, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Drag the picture in a direction within 45 degrees of the horizontal."""
    x = _to_unit(image)
    radius, sigma = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[severity - 1]
    angle = np.deg2rad(rng.uniform(-45, 45))
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-np.square(steps) / (2 * sigma**2))
    reach = int(np.ceil(steps[-1] * _scale(x))) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    # Each step falls between four pixels, which share its weight.
    places = reach + np.stack([np.sin(angle), np.cos(angle)])[:, None] * steps * _scale(x)
    corner, rest = np.floor(places).astype(int), places % 1
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = np.abs(1 - row - rest[0]) * np.abs(1 - column - rest[1])
        np.add.at(kernel, (corner[0] + row, corner[1] + column), weights * share)
    return _convolve(x, kernel)


def _convolve(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Blur with a kernel of odd size, mirrored at the edges."""
    reach = len(kernel) // 2
    padded = np.pad(x, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    kernel = kernel[:, :, None] / kernel.sum()
    return _to_bytes(signal.fftconvolve(padded, kernel, mode="valid", axes=(0, 1)) + 1e-9)


def zoom_blur(image, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Average the picture over zooms of up to 1.1 to 1.3."""
    x = _to_unit(image)
    stop, step = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))[
        severity - 1
    ]
    factors = np.arange(1, stop, step)
    centre = (np.array(x.shape[:2]) - 1) / 2
    total = x.copy()
    for factor in factors:
        scale = np.diag([1 / factor, 1 / factor, 1.0])
        offset = np.append(centre - centre / factor, 0)
        total += ndimage.affine_transform(x, scale, offset, order=1, mode="nearest")
    return _to_bytes(total / (len(factors) + 1))


# Weather and light


def fog(image, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Lay a fractal haze over the picture."""
    x = _to_unit(image)
    amount, decay = ((1.5, 2), (2.0, 2), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))[severity - 1]
    height, width = x.shape[:2]
    haze = _plasma(max(height, width), decay, rng)[:height, :width, None]
    brightest = x.max()
    return _to_bytes((x + amount * haze) * brightest / (brightest + amount))


def _plasma(size: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """Return a fractal height map in [0, 1] by midpoint displacement on a torus."""
    side = 1 << max(int(size - 1).bit_length(), 1)
    heights = np.zeros((side, side))
    step, wobble = side, 100.0
    while step > 1:
        half = step // 2
        corners = heights[::step, ::step]

        def displaced(total, wobble=wobble):
            return total / 4 + rng.uniform(-wobble, wobble, total.shape)

        across = corners + np.roll(corners, -1, axis=0)
        centres = displaced(across + np.roll(across, -1, axis=1))
        heights[half::step, half::step] = centres
        # The middle of each side lies between two corners and two centres.
        heights[::step, half::step] = displaced(
            corners + np.roll(corners, -1, axis=1) + centres + np.roll(centres, 1, axis=0)
        )
        heights[half::step, ::step] = displaced(
            corners + np.roll(corners, -1, axis=0) + centres + np.roll(centres, 1, axis=1)
        )
        step, wobble = half, wobble / decay
    heights -= heights.min()
    return heights / heights.max()


def brightness(image, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Add 0.1 to 0.5 to the value of HSV."""
    x = _to_unit(image)
    value = x.max(axis=2, keepdims=True)
    brighter = np.clip(value + 0.1 * severity, 0, 1)
    # Hue and saturation stay: all channels grow by the same factor; black becomes grey.
    factor = np.divide(brighter, value, out=np.zeros_like(value), where=value > 0)
    return _to_bytes(np.where(value > 0, x * factor, brighter))


def contrast(image, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Draw every channel towards its mean, to 0.4 to 0.05 of its spread."""
    x = _to_unit(image)
    mean = x.mean(axis=(0, 1))
    return _to_bytes((x - mean) * (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1] + mean)


def saturate(image, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Change the saturation of HSV: paler at severities 1 and 2, stronger at 3 to 5."""
    x = _to_unit(image)
    factor, plus = ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))[severity - 1]
    value = x.max(axis=2, keepdims=True)
    span = value - x.min(axis=2, keepdims=True)
    saturation = np.divide(span, value, out=np.zeros_like(span), where=value > 0)
    # How far each channel is below the value, as a share of the span, is what the hue fixes. A grey
    # has no hue; HSV calls it red.
    below = np.divide(value - x, span, out=np.full_like(x, (0.0, 1.0, 1.0)), where=span > 0)
    return _to_bytes(value * (1 - np.clip(saturation * factor + plus, 0, 1) * below))


# Digital


def pixelate(image, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Keep 0.6 to 0.25 of the pixels along each side."""
    share = (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1]
    small = [max(int(length * share), 1) for length in image.size]
    box = Image.Resampling.BOX
    return np.asarray(image.convert("RGB").resize(small, box).resize(image.size, box))


def jpeg_compression(image, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Compress with quality 25 to 7."""
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=(25, 18, 15, 10, 7)[severity - 1])
    return np.asarray(Image.open(file))


def elastic_transform(image, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Stretch the picture by a random affine map and a smooth random displacement."""
    x = _to_unit(image)
    lengths = (
        *((2, 0.7, 0.1), (2, 0.08, 0.2)),
        *((0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)),
    )[severity - 1]
    alpha, sigma, affine = 244 * _scale(x) * np.array(lengths)
    # Noise that is smoothed over fewer pixels keeps more of its spread.
    alpha *= _scale(x)
    shape = np.array(x.shape[:2])
    centre, third = shape // 2, max(min(shape) // 3, 1)
    points = centre + third * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = points + rng.uniform(-affine, affine, size=points.shape)
    # Where each moved point comes from: the affine map that takes moved points back.
    back = np.linalg.solve(np.column_stack([moved, np.ones(3)]), points.astype(float))
    rows, columns = np.indices(x.shape[:2], dtype=float)
    shifts = [
        alpha
        * ndimage.gaussian_filter(rng.uniform(-1, 1, shape), sigma, mode="reflect", truncate=3)
        for _ in range(2)
    ]
    rows, columns = rows + shifts[0], columns + shifts[1]
    places = np.tensordot(back.T, np.stack([rows, columns, np.ones(shape)]), axes=1)
    channels = [
        ndimage.map_coordinates(c, places, order=1, mode="reflect") for c in x.T.swapaxes(1, 2)
    ]
    return _to_bytes(np.stack(channels, axis=2))


# Beside ImageNet-C


def rotate(image, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Turn the picture by 15, 30, 45, 60 or 90 degrees to a random side; corners are mirrored in."""
    degrees = (15, 30, 45, 60, 90)[severity - 1] * rng.choice([-1, 1])
    x = _to_unit(image)
    return _to_bytes(ndimage.rotate(x, degrees, reshape=False, order=1, mode="mirror"))


def horizontal_flip(image, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Mirror the picture left to right, at every severity."""
    return np.asarray(image.convert("RGB"))[:, ::-1].copy()


def vertical_flip(image, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Turn the picture upside down by mirroring, at every severity."""
    return np.asarray(image.convert("RGB"))[::-1].copy()


def greyscale(image, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Take the colour away, at every severity."""
    return np.asarray(image.convert("L").convert("RGB"))


#: Name -> function ``(image, severity, rng) -> uint8 array``.
CORRUPTIONS: dict[str, Callable[[Image.Image, int, np.random.Generator], np.ndarray]] = {
    function.__name__: function
    for function in (
        *(gaussian_noise, shot_noise, impulse_noise, speckle_noise),
        *(gaussian_blur, defocus_blur, motion_blur, zoom_blur),
        *(fog, brightness, contrast, saturate),
        *(pixelate, jpeg_compression, elastic_transform),
        *(rotate, horizontal_flip, vertical_flip, greyscale),
    )
}


@documented
class Corruption(TransformerMixin, BaseEstimator):
    """Corrupt images, as a step before :class:`~sklearn_clipensemble.CLIPEmbedder`.

    The draw of an image depends on its content and on ``random_state`` alone,
    so that the order and the number of images change nothing.

    Parameters
    ----------
    name : str, default="gaussian_noise"
        The corruption, one of the keys of ``CORRUPTIONS``.
    severity : int, default=3
        From 1 (mild) to 5. Flips and ``"greyscale"`` are the same at all.
    random_state : int, default=0
        Decides the draws.
    exif_transpose : bool, default=True
        Whether to turn photographs as their EXIF orientation says; as in
        :class:`~sklearn_clipensemble.CLIPEmbedder`, of which it should have the
        value, since a corrupted image is an array and carries no orientation.

    Examples
    --------
    >>> from sklearn.datasets import load_sample_images
    >>> from sklearn_clipensemble.corruptions import Corruption
    >>> images = load_sample_images().images
    >>> corrupted = Corruption("pixelate", severity=5).fit_transform(images)
    >>> corrupted[0].shape, corrupted[0].dtype
    ((427, 640, 3), dtype('uint8'))
    """

    _parameter_constraints: dict = {
        "name": [StrOptions(set(CORRUPTIONS))],
        "severity": [Interval(Integral, 1, 5, closed="both")],
        "random_state": [Interval(Integral, 0, None, closed="left")],
        "exif_transpose": ["boolean"],
    }

    def __init__(
        self,
        name: str = "gaussian_noise",
        severity: int = 3,
        *,
        random_state: int = 0,
        exif_transpose: bool = True,
    ):
        self.name = name
        self.severity = severity
        self.random_state = random_state
        self.exif_transpose = exif_transpose

    def fit(self, X: Sequence, y: object = None) -> Corruption:
        """Check the parameters; nothing is learned.

        Parameters
        ----------
        X : sequence of images
            Ignored.
        y : object
            Ignored.

        Returns
        -------
        self : object
            The transformer.
        """
        self._validate_params()
        return self

    def transform(self, X: Sequence) -> list[np.ndarray]:
        """Corrupt images.

        Parameters
        ----------
        X : sequence of n images
            Paths, bytes, PIL images, arrays: what
            :class:`~sklearn_clipensemble.CLIPEmbedder` takes.

        Returns
        -------
        list of n uint8 arrays of shape (height, width, 3)
            The corrupted images, of the sizes they had, upright.

        Raises
        ------
        FileNotFoundError, PermissionError, ValueError, TypeError
            If an image cannot be read; the message names its index, and its
            path where it has one.
        """
        self._validate_params()
        sources = as_sources(X)
        return [self._corrupt(sources, index) for index in range(len(sources))]

    def _corrupt(self, sources: Sequence, index: int) -> np.ndarray:
        digest, image = load(sources, index, exif_transpose=self.exif_transpose)
        rng = np.random.default_rng([self.random_state, int.from_bytes(digest)])
        return CORRUPTIONS[self.name](image, self.severity, rng)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        return tags
