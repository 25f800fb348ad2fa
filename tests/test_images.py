"""What users call images -> the exact pixels that a backbone sees."""

import io
import os
import pickle
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageCms, ImageDraw
from sklearn.datasets import load_sample_images

from sklearn_clipensemble import load_image_folder
from sklearn_clipensemble.images import Geometry, as_sources, decode, describe, read


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(load_sample_images().images[0])


def encode(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(source, geometry=None, *, exif_transpose=False, fast=False):
    """Everything that happens to one image before a model sees it."""
    geometry = geometry or Geometry()
    _, content = read(source, exif_transpose=exif_transpose)
    draft = 2 * max(geometry.height, geometry.width) if fast else None
    return geometry.apply(decode(content, exif_transpose=exif_transpose, draft=draft), fast=fast)


# Exact pixels


def official(image, geometry):
    """open_clip's own transform, as far as its normalisation, back on 0 to 255."""
    from open_clip.transform import image_transform

    transform = image_transform(
        (geometry.height, geometry.width),
        is_train=False,
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        resize_mode=geometry.resize_mode,
        interpolation=geometry.interpolation,
        fill_color=geometry.fill_color,
    )
    return (transform(image) * 255).round().byte().permute(1, 2, 0).numpy()


SIZES = [(500, 375), (375, 500), (224, 224), (300, 224), (224, 231), (31, 97), (97, 31), (640, 427)]


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("target", [(224, 224), (32, 32), (256, 192), (97, 224)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_are_those_of_open_clip(photo, mode, target, interpolation):
    geometry = Geometry(*target, mode, interpolation, 114 if mode == "longest" else 0)
    for size in SIZES:
        image = photo.resize(size)
        np.testing.assert_array_equal(geometry.apply(image), official(image, geometry), str(size))
        grey = image.convert("L")
        np.testing.assert_array_equal(geometry.apply(grey), official(grey, geometry), str(size))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
def test_files_give_the_pixels_of_open_clip(photo, mode, kind):
    file = encode(photo.convert(mode), kind)
    expected = official(Image.open(io.BytesIO(file)), Geometry())
    np.testing.assert_array_equal(pixels(file), expected)


def test_progressive_and_subsampled_jpegs_are_exact(photo):
    for options in [{"progressive": True}, {"subsampling": 0}, {"quality": 5}, {"optimize": True}]:
        file = encode(photo, "JPEG", **options)
        np.testing.assert_array_equal(
            pixels(file), official(Image.open(io.BytesIO(file)), Geometry())
        )


# Modes where the official order of steps does harm


def test_palette_is_looked_up_before_resizing(photo):
    palette = photo.quantize(256)
    got = pixels(encode(palette, "PNG"))
    np.testing.assert_array_equal(got, pixels(palette.convert("RGB")))
    # open_clip resizes palette images by nearest neighbours: not what is wanted here.
    difference = np.abs(got.astype(int) - official(palette, Geometry()).astype(int)).mean()
    assert difference > 2


def test_bilevel_becomes_grey_before_resizing(photo):
    bilevel = photo.convert("1")
    got = pixels(encode(bilevel, "PNG"))
    np.testing.assert_array_equal(got, pixels(bilevel.convert("L")))
    assert len(np.unique(got)) > 100
    assert set(np.unique(official(bilevel, Geometry()))) <= {0, 255}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_to_eight(photo, kind):
    grey = np.asarray(photo.convert("L"))
    deep = grey.astype(np.uint16) * 257
    if kind == "PPM":  # which Pillow of 2023 reads, but does not write
        height, width = grey.shape
        file = b"P5 %d %d 65535\n" % (width, height) + deep.astype(">u2").tobytes()
    else:
        file = encode(Image.fromarray(deep), kind)
    np.testing.assert_array_equal(pixels(file), pixels(grey))


def test_sixteen_bits_with_a_transparent_value():
    deep = Image.fromarray(np.array([[0, 65535], [257, 512]], np.uint16))
    # By hand: Pillow of 2023 does not write it.
    chunk = b"tRNS" + (257).to_bytes(2, "big")
    chunk = (2).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    head, _, rest = encode(deep, "PNG").partition(b"IDAT")
    file = head[:-4] + chunk + head[-4:] + b"IDAT" + rest
    _, content = read(file)
    image = decode(content, exif_transpose=False, draft=None)
    np.testing.assert_array_equal(np.asarray(image), [[0, 255], [255, 2]])


def test_32_bits_beyond_sixteen_are_refused():
    image = Image.fromarray(np.array([[0, 70000]], np.int32))
    with pytest.raises(ValueError, match=r"32-bit image with values from 0 to 70000.*Scale it"):
        read(image)


def test_float_tiff_must_be_scaled(photo):
    grey = np.asarray(photo.convert("L"))
    np.testing.assert_array_equal(
        pixels(encode(Image.fromarray(grey / np.float32(255)), "TIFF")), pixels(grey)
    )
    with pytest.raises(ValueError, match=r"scaled to \[0, 1\]"):
        pixels(encode(Image.fromarray(grey.astype(np.float32)), "TIFF"))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L", "1"])
def test_what_is_transparent_becomes_white(mode):
    if mode in ("RGBA", "LA"):
        mask = Image.new("L", (40, 40), 0)
        ImageDraw.Draw(mask).rectangle([0, 0, 19, 39], fill=255)  # the left half is seen
        image = Image.new(mode[:-1], (40, 40), 0)
        image.putalpha(mask)
        file = encode(image, "PNG")
    else:  # one colour is transparent, as told beside the pixels
        image = Image.new("L", (40, 40), 0)
        ImageDraw.Draw(image).rectangle([20, 0, 39, 39], fill=255)
        image = image.point(lambda v: 100 if v else 0) if mode != "1" else image
        image = image.quantize(2) if mode == "P" else image.convert(mode)
        file = encode(image, "PNG", transparency=image.getpixel((30, 0)))
        assert Image.open(io.BytesIO(file)).mode == mode
    got = pixels(file, Geometry(40, 40))
    assert (got[:, :19] == 0).all()
    assert (got[:, 21:] == 255).all()


def test_half_transparent_is_blended():
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    assert (pixels(encode(image, "PNG"), Geometry(8, 8)) == 127).all()


def test_other_colour_spaces_are_converted_first(photo):
    for mode in ["CMYK", "YCbCr"]:
        image = photo.convert(mode)
        np.testing.assert_array_equal(pixels(image), pixels(image.convert("RGB")))
    file = encode(photo.convert("CMYK"), "JPEG")
    expected = pixels(Image.open(io.BytesIO(file)).convert("RGB"))
    np.testing.assert_array_equal(pixels(file), expected)


def test_first_frame_of_an_animation(photo):
    small = photo.resize((64, 48))
    file = encode(small, "GIF", save_all=True, append_images=[small.rotate(90), small.rotate(180)])
    np.testing.assert_array_equal(pixels(file), pixels(Image.open(io.BytesIO(file)).convert("RGB")))


def test_embedded_profile_and_text_change_nothing(photo):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(
        pixels(encode(photo, "PNG", icc_profile=profile)), pixels(encode(photo, "PNG"))
    )


# Options


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_transpose(photo, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encode(photo, "JPEG", exif=exif)
    as_stored = Image.open(io.BytesIO(encode(photo, "JPEG")))
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    turned = as_stored if orientation == 1 else as_stored.transpose(turn[orientation])
    np.testing.assert_array_equal(pixels(file), pixels(as_stored))
    np.testing.assert_array_equal(pixels(file, exif_transpose=True), pixels(turned))
    opened = Image.open(io.BytesIO(file))
    np.testing.assert_array_equal(pixels(opened, exif_transpose=True), pixels(turned))


def test_damaged_exif_leaves_the_picture_as_it_is(photo):
    file = encode(photo, "JPEG", exif=b"Exif\x00\x00not exif at all")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow may warn of the EXIF data
        np.testing.assert_array_equal(pixels(file, exif_transpose=True), pixels(file))


def test_fast_is_near_and_only_shrinks_jpegs(photo):
    file = encode(photo.resize((2560, 1708)), "JPEG")
    _, content = read(file)
    assert decode(content, exif_transpose=False, draft=448).size == (1280, 854)
    assert decode(content, exif_transpose=False, draft=None).size == (2560, 1708)
    difference = np.abs(pixels(file).astype(int) - pixels(file, fast=True)).mean()
    assert 0 < difference < 1
    png = encode(photo.resize((2560, 1708)), "PNG")
    assert decode(read(png)[1], exif_transpose=False, draft=448).size == (2560, 1708)


# Forms


def forms(photo, folder):
    """The same picture in every form."""
    import polars as pl
    import pyarrow as pa
    import torch

    array = np.asarray(photo)
    file = encode(photo, "PNG")
    path = folder / "photo.png"
    path.write_bytes(file)
    opened = io.BytesIO(file)
    opened.seek(5)  # wherever the last reader left it
    opaque = np.dstack([array, np.full(array.shape[:2], 255, np.uint8)])
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    return {
        "str": [str(path)],
        "Path": [path],
        "bytes": [file],
        "bytearray": [bytearray(file)],
        "memoryview": [memoryview(file)],
        "BytesIO": [opened],
        "PIL": [photo],
        "lazy PIL": [Image.open(path)],
        "uint8": [array],
        "fortran": [np.asfortranarray(array)],
        "read-only": [np.frombuffer(array.tobytes(), np.uint8).reshape(array.shape)],
        "RGBA": [opaque],
        "stack": array[None],
        "float": [array / 255],
        "float32": [array.astype(np.float32) / 255],
        "float16 stack": (array[None] / 255).astype(np.float16),
        "tensor": [tensor],
        "float tensor": [tensor / 255],
        "tensor stack": tensor[None],
        "tensor channels last": tensor.permute(1, 2, 0)[None],
        "Series of paths": pd.Series([str(path)], index=["a"]),
        "Series of bytes": pd.Series([file]),
        "frame": pd.DataFrame({"image": [path]}),
        "object column": np.array([[str(path)]], dtype=object),
        "text array": np.array([str(path)]),
        "arrow-backed": pd.Series([str(path)], dtype="string[pyarrow]"),
        "polars": pl.Series([str(path)]),
        "polars frame": pl.DataFrame({"image": [file]}),
        "pyarrow": pa.array([file]),
        "chunked": pa.chunked_array([[str(path)]]),
        "table": pa.table({"image": [file]}),
        "undecoded": [{"bytes": file, "path": None}],
        "undecoded path": [{"bytes": None, "path": str(path)}],
        "tuple": (path,),
    }


def test_every_form_gives_the_same_pixels(photo, tmp_path):
    pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    expected = pixels(photo)
    for name, X in forms(photo, tmp_path).items():
        sources = as_sources(X)
        assert len(sources) == 1, name
        np.testing.assert_array_equal(pixels(sources[0]), expected, name)


def test_open_file(photo, tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(encode(photo, "PNG"))
    with open(path, "rb") as file:
        file.seek(7)
        np.testing.assert_array_equal(pixels(file), pixels(photo))
        assert file.tell() == 7  # left where it stood
    with open(path, encoding="latin-1") as file, pytest.raises(TypeError, match="mode 'rb'"):
        read(file)


def test_stream_that_cannot_be_wound_back(photo):
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *args):
            raise io.UnsupportedOperation("seek")

    np.testing.assert_array_equal(pixels(Pipe(encode(photo, "PNG"))), pixels(photo))


def test_hugging_face_dataset(photo):
    datasets = pytest.importorskip("datasets")
    rows = [{"bytes": encode(photo, "PNG"), "path": None}] * 2
    table = datasets.Dataset.from_dict({"image": rows, "label": [0, 1]})
    table = table.cast_column("image", datasets.Image())
    for X in [table["image"], table.select_columns("image")]:
        np.testing.assert_array_equal(pixels(as_sources(X)[1]), pixels(photo))
    with pytest.raises(ValueError, match="Select the column"):
        as_sources(table)


def test_grey_forms_agree():
    import torch

    grey = np.random.RandomState(0).randint(0, 256, (30, 20), np.uint8)
    expected = pixels(Image.fromarray(grey))
    for X in [
        grey[None],
        grey[None, :, :, None],
        [grey[:, :, None]],
        [np.dstack([grey] * 3)],
        grey[None] / 255,
        torch.from_numpy(grey)[None],
        torch.from_numpy(grey)[None, None],
        [torch.from_numpy(grey)[None]],
    ]:
        np.testing.assert_array_equal(pixels(as_sources(X)[0]), expected)
    mask = grey > 127
    np.testing.assert_array_equal(pixels(mask), pixels(mask.astype(np.uint8) * 255))


def test_no_form_is_changed_by_reading(photo, tmp_path):
    array = np.asarray(photo).copy()
    for given in [array, array / 255, np.dstack([array, array[:, :, :1]])]:
        before = given.copy()
        pixels(given)
        np.testing.assert_array_equal(given, before)
    palette = photo.convert("P")
    pixels(palette)
    assert palette.mode == "P"


def test_one_object_in_many_rows_is_read_in_turns(photo):
    """Rows may hold the same file or the same image that is not loaded yet; threads must not mix them up."""
    file = encode(photo, "PNG")
    expected = pixels(photo)
    for make in [lambda: io.BytesIO(file), lambda: Image.open(io.BytesIO(file))]:
        source = make()
        with ThreadPoolExecutor(8) as pool:
            for got in pool.map(pixels, [source] * 8):
                np.testing.assert_array_equal(got, expected)


def test_digest_follows_the_content(photo):
    array = np.zeros((4, 6), np.uint8)
    different = [
        array,
        array.T.copy(),
        np.zeros((4, 6, 3), np.uint8),
        np.zeros((4, 2, 3), np.uint8),
        np.ones((4, 6), np.uint8),
        encode(photo, "PNG"),
        encode(photo, "JPEG"),
        bytes(24),
    ]
    assert len({read(x)[0] for x in different}) == len(different)
    assert read(array)[0] == read(Image.fromarray(array))[0] == read(array / 255)[0]


# Refusals


@pytest.mark.parametrize(
    ("X", "kind", "match"),
    [
        ("photo.jpg", TypeError, r"one str: 'photo.jpg'. Wrap it in a list"),
        (Path("photo.jpg"), TypeError, "Wrap it in a list"),
        (b"bytes", TypeError, "one bytes"),
        (Image.new("RGB", (2, 2)), TypeError, "one PIL image. Wrap it in a list"),
        ((x for x in ["a.jpg"]), TypeError, r"generator.*pass list\(X\)"),
        (iter(["a.jpg"]), TypeError, r"pass list\(X\)"),
        ({"a.jpg"}, TypeError, "got set"),
        ({"image": ["a.jpg"]}, TypeError, "got dict"),
        (7, TypeError, "got int"),
        ([], ValueError, "X is empty"),
        (np.empty((0, 8, 8)), ValueError, "X is empty"),
        (pd.Series([], dtype=object), ValueError, "X is empty"),
        (np.zeros((5, 64)), ValueError, r"X.reshape\(n, H, W\)"),
        (np.zeros(5), ValueError, "got \\(5,\\)"),
        (np.zeros((1, 2, 3, 4, 5)), ValueError, "must have shape"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), ValueError, r"\['a', 'b'\]. Select the column"),
        (np.array([["a", "b"]], dtype=object), ValueError, r"X\[:, column\]"),
    ],
)
def test_what_is_no_sequence_of_images(X, kind, match):
    with pytest.raises(kind, match=match):
        as_sources(X)


def test_a_folder_is_no_sequence_but_says_the_way(tmp_path):
    with pytest.raises(TypeError, match=r"load_image_folder\(.*\).paths"):
        as_sources(str(tmp_path))


def heic():
    return b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(200)


def bomb():
    """A PNG of 30,000 x 30,000 pixels in under a kilobyte, by what its header says."""
    file = bytearray(encode(Image.new("1", (8, 8)), "PNG"))
    import struct
    import zlib

    file[16:24] = struct.pack(">II", 30_000, 30_000)
    file[29:33] = struct.pack(">I", zlib.crc32(bytes(file[12:29])))
    return bytes(file)


@pytest.mark.parametrize(
    ("source", "kind", "match"),
    [
        (b"", ValueError, "zero bytes"),
        (b"Dear reader, I am no image.", ValueError, "starts with the text 'Dear reader"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), ValueError, "not an image|damaged"),
        (bytes(range(128, 256)), ValueError, "not an image in a format that Pillow knows"),
        (heic(), ValueError, "pip install pillow-heif"),
        (bomb(), ValueError, r"decompression bomb.*MAX_IMAGE_PIXELS"),
        (None, ValueError, "no image here"),
        (float("nan"), ValueError, "no image here"),
        (pd.NA, ValueError, "no image here"),
        (3, TypeError, "cannot read an image from int"),
        ([1, 2], TypeError, "cannot read an image from list"),
        (np.full((4, 4), 16.0), ValueError, r"from 16 to 16. Divide it.*16 for load_digits"),
        (np.full((4, 4), -0.1), ValueError, "scaled to"),
        (np.full((4, 4), np.nan), ValueError, "scaled to"),
        (np.zeros((4, 4), np.int64), ValueError, r"astype\(np.uint8\)"),
        (np.zeros((4, 4, 5), np.uint8), ValueError, r"shape \(4, 4, 5\)"),
        (np.zeros((0, 4), np.uint8), ValueError, "no image"),
        (np.zeros(4, np.uint8), ValueError, "no image"),
    ],
)
def test_what_is_no_image(source, kind, match):
    with pytest.raises(kind, match=match):
        pixels(source)


def test_truncated_files(photo):
    for kind in ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"]:
        file = encode(photo, kind)
        with pytest.raises(ValueError, match=r"damaged or truncated|not an image"):
            pixels(file[: len(file) // 2])


def test_paths_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="No such file"):
        read(tmp_path / "missing.jpg")
    with pytest.raises((IsADirectoryError, PermissionError)):
        read(tmp_path)
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"x")
    secret.chmod(0)
    if not os.access(secret, os.R_OK):  # root reads everything
        with pytest.raises(PermissionError):
            read(secret)


@pytest.mark.parametrize("size", [(5000, 3), (3, 5000), (20_000, 1), (1, 1)])
@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
def test_absurd_shapes_stay_small(size, mode):
    got = Geometry(resize_mode=mode).apply(Image.new("RGB", size, (9, 9, 9)))
    assert got.shape == (224, 224, 3)
    assert (got[111, 111] == 9).all()


def test_a_long_picture_keeps_its_middle():
    long = np.zeros((10, 1000), np.uint8)
    long[:, 495:505] = 255
    assert (Geometry(32, 32).apply(Image.fromarray(long))[:, 8:-8] == 255).all()


def test_pillow_settings_are_left_alone(photo):
    from PIL import ImageFile

    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    for source in [bomb(), encode(photo, "JPEG")[:5000]]:
        with pytest.raises(ValueError, match=r"bomb|damaged"):
            pixels(source)
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


def test_errors_name_index_and_path(tmp_path):
    with open(__file__, "rb") as file:
        assert describe(file, 2) == f"Image 2 ({__file__!r})"
    assert describe("a/b.jpg", 3) == "Image 3 ('a/b.jpg')"
    assert describe(tmp_path / "b.jpg", 0).endswith("b.jpg')")
    assert describe({"bytes": b"", "path": "c.jpg"}, 1) == "Image 1 ('c.jpg')"
    for nameless in [b"abc", np.zeros((2, 2)), io.BytesIO(), Image.new("L", (2, 2)), None]:
        assert describe(nameless, 4) == "Image 4"
    assert len(describe("x" * 5000, 0)) < 250


# Folders


@pytest.fixture
def folder(tmp_path):
    image = Image.new("RGB", (4, 4))
    for name in ["dog/2.png", "dog/1.JPG", "cat/deep/3.webp", "cat/.hidden.png"]:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    (tmp_path / "photos/dog/notes.txt").write_text("no image")
    (tmp_path / "photos/dog/phone.heic").write_bytes(heic())
    (tmp_path / "photos/empty").mkdir()
    (tmp_path / "photos/.git").mkdir()
    return tmp_path / "photos"


def test_load_image_folder(folder):
    found = load_image_folder(folder)
    names = [Path(p).relative_to(folder).as_posix() for p in found.paths]
    assert names == ["cat/deep/3.webp", "dog/1.JPG", "dog/2.png", "dog/phone.heic"]
    assert found.target.tolist() == ["cat", "dog", "dog", "dog"]
    assert found.target_names == ["cat", "dog"]
    assert len(as_sources(found.paths)) == 4
    assert pickle.loads(pickle.dumps(found)).target_names == ["cat", "dog"]


def test_load_image_folder_without_classes(folder):
    found = load_image_folder(str(folder / "dog"))
    assert len(found.paths) == 3
    assert found.target is None
    assert found.target_names == []


def test_load_image_folder_by_pattern(folder):
    found = load_image_folder(folder / "*" / "*.*")
    assert [Path(p).name for p in found.paths] == ["1.JPG", "2.png", "phone.heic"]
    assert found.target_names == ["dog"]
    found = load_image_folder(folder / "**" / "*.webp")
    assert found.target.tolist() == ["deep"]


def test_load_image_folder_tells_of_images_without_class(folder):
    Image.new("RGB", (4, 4)).save(folder / "stray.png")
    with pytest.warns(UserWarning, match=r"1 images lie beside .* left out: stray.png"):
        assert len(load_image_folder(folder).paths) == 4


def test_load_image_folder_refuses(folder):
    with pytest.raises(FileNotFoundError, match="no folder"):
        load_image_folder(folder / "missing")
    with pytest.raises(FileNotFoundError, match="no images"):
        load_image_folder(folder / "empty")
    with pytest.raises(FileNotFoundError, match="no images"):
        load_image_folder(folder / "*" / "*.bmp")
    with pytest.raises(NotADirectoryError, match="is a file"):
        load_image_folder(folder / "dog" / "1.JPG")


def test_a_path_in_an_array_is_named_as_it_was_written():
    assert describe(np.array(["a.jpg"])[0], 3) == "Image 3 ('a.jpg')"
