"""What users call images -> the exact pixels that a backbone sees."""

import io
import os
import pickle
import tarfile
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from files import encode, oriented, tagged_files
from PIL import Image, ImageCms, ImageDraw, ImageOps
from sklearn.datasets import load_sample_images
from sklearn.utils import Bunch

from sklearn_clipensemble import load_image_folder
from sklearn_clipensemble.images import Geometry, as_sources, decode, describe, load, read


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(load_sample_images().images[0])


def pixels(source, geometry=None, *, exif_transpose=True, fast=False):
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
    # open_clip forgets the interpolation where it keeps the ratio for a target that is no square.
    forgets = mode == "shortest" and target[0] != target[1]
    geometry = Geometry(
        *(*target, mode, "bicubic" if forgets else interpolation),
        114 if mode == "longest" else 0,
    )
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


TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@pytest.mark.parametrize("orientation", range(10))  # 0 and 9 are not defined
def test_a_photograph_stands_upright(photo, orientation):
    file = encode(photo, "JPEG", exif=oriented(orientation))
    as_stored = Image.open(io.BytesIO(encode(photo, "JPEG")))
    upright = as_stored.transpose(TURNS[orientation]) if orientation in TURNS else as_stored
    opened, loaded = Image.open(io.BytesIO(file)), Image.open(io.BytesIO(file))
    loaded.load()
    for source in [file, io.BytesIO(file), opened, loaded]:
        np.testing.assert_array_equal(pixels(source), pixels(upright))
        np.testing.assert_array_equal(pixels(source, exif_transpose=False), pixels(as_stored))
    assert loaded.getexif()[0x0112] == orientation  # the user's own image keeps its tag


def test_every_format_that_knows_which_way_is_up(photo):
    small = photo.resize((96, 64))
    for name, file in tagged_files(small).items():
        opened = Image.open(io.BytesIO(file))
        loaded = Image.open(io.BytesIO(file))
        loaded.load()
        for source in [file, opened, loaded]:
            got = decode(read(source)[1])
            assert got.size == (64, 96), name
        as_stored = decode(read(file, exif_transpose=False)[1], exif_transpose=False)
        if name == "TIFF":  # Pillow turns it itself
            assert as_stored.size == (64, 96)
        else:
            turned = as_stored.transpose(Image.Transpose.ROTATE_270)
            np.testing.assert_array_equal(np.asarray(decode(read(file)[1])), turned, name)
            assert read(file)[0] != read(file, exif_transpose=False)[0]


def test_an_image_in_memory_is_turned_as_it_says(photo):
    tagged = photo.copy()
    tagged.getexif()[0x0112] = 8
    expected = pixels(photo.transpose(TURNS[8]))
    np.testing.assert_array_equal(pixels(tagged), expected)
    np.testing.assert_array_equal(pixels(tagged, exif_transpose=False), pixels(photo))
    # Turned by Pillow's own function it says so no longer.
    np.testing.assert_array_equal(pixels(ImageOps.exif_transpose(tagged)), expected)


def test_damaged_exif_leaves_the_picture_as_it_is(photo):
    file = encode(photo, "JPEG", exif=b"Exif\x00\x00not exif at all")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow may warn of the EXIF data
        np.testing.assert_array_equal(pixels(file), pixels(file, exif_transpose=False))


def test_the_digest_tells_which_way_up(photo):
    def digests(source):
        return {read(source, exif_transpose=turn)[0] for turn in (True, False)}

    for untagged in [encode(photo, "JPEG"), encode(photo, "JPEG", exif=oriented(1))]:
        assert len(digests(untagged)) == 1
    assert len(digests(encode(photo, "WEBP"))) == len(digests(np.asarray(photo))) == 1
    assert len(digests(encode(photo, "JPEG", exif=oriented(6)))) == 2


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
        "opened PIL": [Image.open(io.BytesIO(file))],
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


ANIMATIONS = ["GIF", "WEBP", "PNG", "TIFF"]


@pytest.mark.parametrize("kind", ["JPEG", *ANIMATIONS, "BMP", "PPM"])
def test_an_opened_image_stays_as_it_was(photo, tmp_path, kind):
    """It is read, and not loaded: a list of them must not fill the memory."""
    path = tmp_path / "photo"
    small = photo.resize((64, 48))
    small.save(path, kind)
    expected = pixels(path.read_bytes())
    with Image.open(path) as image:
        for _ in range(2):
            np.testing.assert_array_equal(pixels(image), expected)
        state = vars(image)
        assert state.get("_im", state.get("im")) is None
        np.testing.assert_array_equal(
            pixels(image.copy()), expected
        )  # it still loads, and is right
        np.testing.assert_array_equal(pixels(image), expected)


@pytest.mark.parametrize("kind", ANIMATIONS)
def test_the_frame_that_was_chosen(photo, kind):
    frames = [photo.resize((64, 48)).rotate(90 * i) for i in range(3)]
    options = {"lossless": True} if kind == "WEBP" else {}
    file = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    for frame in [2, 1, 0]:
        image, reference = Image.open(io.BytesIO(file)), Image.open(io.BytesIO(file))
        image.seek(frame)
        reference.seek(frame)
        np.testing.assert_array_equal(pixels(image), pixels(reference.convert("RGB")))
        assert image.tell() == frame
        np.testing.assert_array_equal(np.asarray(image), np.asarray(reference))


def test_an_opened_image_that_was_changed(photo):
    file = encode(photo.resize((640, 480)), "JPEG")
    draft = Image.open(io.BytesIO(file))
    draft.draft("RGB", (160, 120))
    reference = Image.open(io.BytesIO(file))
    reference.draft("RGB", (160, 120))
    np.testing.assert_array_equal(pixels(draft), pixels(reference.copy()))
    icon = Image.open(io.BytesIO(encode(photo.resize((48, 48)), "ICO", sizes=[(16, 16), (48, 48)])))
    icon.size = (16, 16)
    assert decode(read(icon)[1]).size == (16, 16)
    icon.putpixel((0, 0), (1, 2, 3, 255))
    assert decode(read(icon)[1]).getpixel((0, 0)) == (1, 2, 3)


def test_a_closed_image_says_so(photo, tmp_path):
    path = tmp_path / "photo.png"
    photo.save(path)
    with Image.open(path) as closed:
        pass
    with pytest.raises(ValueError, match=r"closed before its pixels were loaded. Call image.load"):
        read(closed)
    with open(path, "rb") as file:
        closed = Image.open(file)
    with pytest.raises(ValueError, match=r"opened from is closed. Call image.load"):
        read(closed)


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
        (bytearray(b"bytes"), TypeError, "one bytearray.*Wrap it in a list"),
        (memoryview(b"bytes"), TypeError, "one memoryview.*Wrap it in a list"),
        (io.BytesIO(b"bytes"), TypeError, r"one file object \(BytesIO\). Wrap it in a list"),
        ({"bytes": b"x", "path": None}, TypeError, "one undecoded image. Wrap it in a list"),
        ({"a.jpg", "b.jpg"}, TypeError, "got set, whose images have no order"),
        ({"a.jpg": 1}.keys(), TypeError, r"got dict_keys, which cannot be indexed. Pass list\(X\)"),
        (
            {1: "a.jpg"}.values(),
            TypeError,
            r"got dict_values, which cannot be indexed. Pass list\(X\)",
        ),
        ((p for p in ["a.jpg"]), TypeError, r"got generator.*read only once.*list\(X\)"),
        (iter(["a.jpg"]), TypeError, r"got list_iterator.*read only once"),
        (None, TypeError, "got NoneType, which holds no images"),
        (True, TypeError, "got bool"),
        (3.0, TypeError, "got float, which holds no images"),
        (
            zipfile.Path(zipfile.ZipFile(io.BytesIO(), "w"), "a.png"),
            TypeError,
            "got one Path.*Wrap it in a list",
        ),
        (
            zipfile.ZipFile(io.BytesIO(), "w"),
            TypeError,
            r"got an archive \(ZipFile\).*X\.open\(name\)",
        ),
        (
            tarfile.TarFile(fileobj=io.BytesIO(), mode="w"),
            TypeError,
            r"got an archive \(TarFile\).*X\.extractfile\(name\)",
        ),
        (pl.LazyFrame({"path": ["a.jpg"]}), TypeError, r"got LazyFrame.*X\.collect\(\)"),
        (np.array("a.jpg"), ValueError, r"no axis.*a list: \[X\.item\(\)\]"),
        (np.array(None, dtype=object), ValueError, r"no axis.*a list: \[X\.item\(\)\]"),
        (np.array([]), ValueError, "X is empty"),
        (Bunch(paths=["a.jpg"], target=["a"]), TypeError, r"Bunch with the keys .*X\['paths'\]"),
        (np.array([[["a"]]], dtype=object), ValueError, r"X\[:, column\]"),
    ],
)
def test_what_is_no_sequence_of_images(X, kind, match):
    with pytest.raises(kind, match=match):
        as_sources(X)


def test_a_folder_is_no_sequence_but_says_the_way(tmp_path):
    with pytest.raises(TypeError, match=r"load_image_folder\(.*\).paths"):
        as_sources(str(tmp_path))
    with pytest.raises(IsADirectoryError, match=r"load_image_folder\(path\).paths"):
        read(tmp_path)


def test_one_picture_is_no_stack():
    """It would be read as a picture for each of its rows."""
    import torch
    from torchvision import tv_tensors

    for shape in [(48, 64, 3), (48, 64, 4), (48, 64, 2), (48, 64, 1), (48, 64)]:
        bytes_ = np.zeros(shape, np.uint8)
        for one in [bytes_, bytes_ / 255, bytes_ > 3, torch.from_numpy(bytes_)]:
            with pytest.raises(ValueError, match=r"a single image|list: \[image\]"):
                as_sources(one)
            assert len(as_sources([one])) == 1
    for channels in (3, 4):
        one = torch.zeros(channels, 48, 64)
        for tensor in [one, one.to(torch.uint8), tv_tensors.Image(one), torch.nn.Parameter(one)]:
            with pytest.raises(ValueError, match=r"one picture. Wrap it .* X\[:, None\]"):
                as_sources(tensor)
        assert as_sources(one[:, None]).shape == (channels, 48, 64, 1)
    assert as_sources(torch.zeros(1, 48, 64)).shape == (1, 48, 64)  # one grey picture either way
    assert as_sources(tv_tensors.Image(torch.zeros(2, 3, 48, 64))).shape == (2, 48, 64, 3)
    assert as_sources(np.zeros((3, 48, 64))).shape == (3, 48, 64)  # arrays have channels last

    class Lazy:
        """An array in a file, as those of h5py and zarr."""

        shape = (48, 64, 3)
        dtype = np.dtype(np.uint8)

        def __len__(self):
            return 48

        def __getitem__(self, index):
            return np.zeros((64, 3), np.uint8)

    with pytest.raises(ValueError, match="one picture"):
        as_sources(Lazy())


def test_one_place_of_fsspec_is_no_sequence():
    fsspec = pytest.importorskip("fsspec")
    with pytest.raises(TypeError, match=r"got one OpenFile. Wrap it in a list"):
        as_sources(fsspec.open("memory://a.png"))


def test_an_error_that_cannot_be_written():
    """Such as that of a missing member of an archive in memory, in some versions of Python."""

    class Odd(Exception):
        def __str__(self):
            raise TypeError

    class Image:
        def read(self):
            raise Odd

    with pytest.raises(ValueError, match=r"^Image 0: Odd$"):
        load([Image()], 0)


def test_a_loader_of_batches_says_what_to_pass():
    import torch

    data = torch.utils.data.TensorDataset(torch.zeros(4, 3, 8, 8), torch.zeros(4))
    loader = torch.utils.data.DataLoader(data, batch_size=2)
    for loads in (loader, iter(loader)):
        with pytest.raises(TypeError, match=r"DataLoader.*\[image for image, label in X.dataset\]"):
            as_sources(loads)
    with pytest.raises(ValueError, match=r"A stack of pictures is passed by itself, not in a list"):
        read(as_sources(next(iter(loader)))[0])

    class Endless(torch.utils.data.Dataset):
        def __getitem__(self, index):
            return torch.zeros(3, 8, 8)

    with pytest.raises(TypeError, match=r"got Endless, which has no length. Pass a list"):
        as_sources(Endless())
    assert len(as_sources(data)) == 4
    with pytest.raises(TypeError, match=r"from tuple.*\[image for image, label in X\]"):
        read(as_sources(data)[0])
    with pytest.raises(TypeError, match=r"from dict.*\['image', 'label'\]"):
        read({"image": b"", "label": 1})


def test_pictures_that_numpy_took_apart(photo):
    small = np.asarray(photo.resize((8, 6)))
    for pictures in [[small, small], [small[:, :, 0]] * 2, [small / 255] * 2]:
        with pytest.raises(ValueError, match=r"one number in each place.* Pass the list"):
            as_sources(np.array(pictures, dtype=object))


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="NumPy 1")
def test_paths_of_numpys_own_text_type():
    paths = np.array(["a.jpg", "b/c.png"], dtype=np.dtypes.StringDType())
    assert list(as_sources(paths)) == list(as_sources(paths[:, None])) == ["a.jpg", "b/c.png"]
    with pytest.raises(ValueError, match=r"X\[:, column\]"):
        as_sources(paths[None])


def test_splits_of_a_dataset():
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"label": [0], "image": ["a.png"]})
    for splits in [{"train": table, "test": table}, {"train": table.select_columns("image")}]:
        with pytest.raises(
            TypeError, match=r"DatasetDict with the splits .*X\['train'\]\['image'\]"
        ):
            as_sources(datasets.DatasetDict(splits))


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
        (
            [[1, 2], [3, 4]],
            TypeError,
            r"from list.* Numbers in lists are an image as np\.asarray\(image, np\.uint8\)",
        ),
        (
            os.fsencode("photos/a.jpg"),
            ValueError,
            r"starts with the text 'photos/a.jpg'. .*os\.fsdecode\(path\)",
        ),
        (b"~/a.PNG", ValueError, r"os\.fsdecode\(path\)"),
        (
            np.frombuffer(encode(Image.new("L", (4, 4)), "PNG"), np.uint8),
            ValueError,
            r"shape \(\d+,\) .* bytes of a file, pass image\.tobytes\(\)",
        ),
        (
            np.zeros((1, 8, 8, 3), np.uint8),
            ValueError,
            r"\(1, 8, 8, 3\) .*of a stack of one pass image\[0\]",
        ),
        (np.zeros((3, 8, 8), np.uint16), ValueError, r"If its channels come first"),
        (
            np.zeros((8, 8, 3), np.uint16),
            ValueError,
            r"array of uint16.*divide it by its largest possible value",
        ),
        (
            io.TextIOWrapper(io.BytesIO(b"\x89PNG")),
            TypeError,
            "gave str, not bytes; open it with mode 'rb'",
        ),
        (np.full((4, 4), 16.0), ValueError, r"from 16 to 16. Divide it.*16 for load_digits"),
        (np.full((4, 4), -0.1), ValueError, r"scaled to.* np.clip\(image, 0, 1\)"),
        (np.full((4, 4, 3), -1.7), ValueError, "scaled to.*was normalised .* as it was before"),
        (
            np.linspace(-1, 1, 48).reshape(4, 4, 3),
            ValueError,
            r"scaled to \[-1, 1\].* as it was before",
        ),
        (np.full((4, 4, 3), 2.6), ValueError, "scaled to.*was normalised .* as it was before"),
        (np.full((4, 4), 255.0), ValueError, "Divide it.*255 for 8-bit"),
        (np.full((4, 4), np.nan), ValueError, "scaled to.*no numbers"),
        (np.full((4, 4), np.inf), ValueError, "scaled to.*no numbers"),
        (np.zeros((3, 8, 8), np.uint8), ValueError, r"np.moveaxis\(array, 0, -1\)"),
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


def test_a_home_folder(photo, tmp_path, monkeypatch):
    home = tmp_path / "home"
    (home / "cat").mkdir(parents=True)
    photo.save(home / "cat" / "1.png")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    for path in ["~/cat/1.png", Path("~/cat/1.png"), os.path.join("~", "cat", "1.png")]:
        np.testing.assert_array_equal(pixels(path), pixels(photo))
    assert load_image_folder("~").target_names == load_image_folder("~/*/*").target_names == ["cat"]
    with pytest.raises(TypeError, match=r"load_image_folder\('~'\).paths"):
        as_sources("~")
    # What is really called so is not the home folder.
    monkeypatch.chdir(tmp_path)
    photo.rotate(90).save("~odd.png")
    np.testing.assert_array_equal(pixels("~odd.png"), pixels(photo.rotate(90)))
    with pytest.raises(FileNotFoundError):
        read("~nobody/1.png")


@pytest.mark.parametrize(
    "url", ["https://a.org/1.png", "HTTP://a.org/1.png", "s3://b/1.png", "gs://b/1"]
)
def test_a_url_says_what_to_do(url):
    for path in [url, Path(url)]:
        with pytest.raises(ValueError, match=r"this is a URL .*Download it first, or .* fsspec"):
            read(path)
    with pytest.raises(ValueError, match="this is a URL"):
        load_image_folder(url)


def test_urls_of_what_is_here(tmp_path):
    for url in ["file:///a%20b/1.png", Path("file:///a%20b/1.png")]:
        with pytest.raises(ValueError, match=r"pass the path itself: '/a b/1.png'"):
            read(url)
    with pytest.raises(ValueError, match=r"base64.b64decode"):
        read("data:image/png;base64,AAAA" + "A" * 5000)


def test_an_empty_path():
    for empty in ["", np.array([""])[0], np.array(["", "a"], object)[0]]:
        with pytest.raises(ValueError, match=r"the path is empty \(''\)"):
            read(empty)
    with pytest.raises(ValueError, match="the path is empty"):
        load_image_folder("")


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
    (tmp_path / "photos/dog/phone.heic").write_bytes(heic())
    (tmp_path / "photos/.git").mkdir()
    return tmp_path / "photos"


def listed(folder, pattern=""):
    """The images that are found, relative to their folder."""
    found = load_image_folder(folder / pattern)
    return [Path(p).relative_to(folder).as_posix() for p in found.paths]


def link(place, aim):
    try:
        place.symlink_to(aim)
    except OSError:
        pytest.skip("links cannot be made here")


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


def test_patterns_match_as_those_of_glob(folder, monkeypatch):
    import glob

    Image.new("RGB", (4, 4)).save(folder / "cat" / "deep" / "[1].png")
    monkeypatch.chdir(folder.parent)
    for root in ["photos", "./photos", str(folder), "photos/../photos"]:
        for pattern in [
            "**",
            "**/*",
            "*/*",
            "[cd]*/**/*.[wp]*",
            "**/deep/**",
            "dog/?.png",
            "**/**/*.png",
        ]:
            pattern = f"{root}/{pattern}"
            expected = {
                str(Path(p)) for p in glob.glob(pattern, recursive=True) if os.path.isfile(p)
            }
            found = load_image_folder(pattern).paths.tolist()
            assert len(found) == len(expected), pattern
            assert set(found) == expected, pattern


def test_hidden_folders_are_left_out_without_a_word(folder):
    image = Image.new("RGB", (4, 4))
    before = listed(folder)
    for name in ["dog/.ipynb_checkpoints", "cat/deep/.cache/more", ".trash", "dog/@eaDir"]:
        (folder / name).mkdir(parents=True)
        image.save(folder / name / "2.png")
    for name in ["dog/Thumbs.db", "cat/.DS_Store", "desktop.ini", "dog/._1.jpg"]:
        (folder / name).write_bytes(b"junk")
    assert listed(folder) == before
    assert listed(folder, "**/*.*") == before
    assert listed(folder, "**") == before
    # That the folder itself lies in a hidden one says nothing of its images.
    hidden = folder.rename(folder.with_name(".photos"))
    assert listed(hidden) == before


def test_what_is_no_picture_is_counted(folder):
    before = listed(folder)
    for name in [
        "dog/a.mpg",
        "dog/b.MPG",
        "cat/c.h5",
        "cat/d.eps",
        "e.pdf",
        "dog/f.emf",
        "dog/g.txt",
    ]:
        (folder / name).write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="Left out of") as caught:
        assert listed(folder) == before
    (message,) = [str(w.message) for w in caught]
    assert "no pictures: 1 .emf, 1 .eps, 1 .h5, 2 .mpg, 1 .pdf, 1 .txt." in message
    with pytest.warns(UserWarning, match=r"Left out of .*: 1 .emf, 2 .mpg, 1 .txt\."):
        listed(folder, "dog/*")
    with pytest.warns(UserWarning, match=r"Left out of .*: 1 .emf, 2 .mpg, 1 .txt\."):
        assert listed(folder / "dog") == ["1.JPG", "2.png", "phone.heic"]


def test_files_without_an_ending_are_looked_into(folder):
    image = Image.new("RGB", (4, 4))
    for name, content in {
        "cat/jpeg": encode(image, "JPEG"),
        "cat/0001": encode(image, "WEBP"),
        "cat/phone": heic(),
        "cat/bomb": bomb(),
        "dog/README": b"Dear reader",
        "dog/data": b"\x89HDF\r\n\x1a\n" + bytes(600),
        "dog/film": b"\x00\x00\x01\xb3" + bytes(range(200)),
        "dog/zeros": bytes(1000),
        "dog/nothing": b"",
    }.items():
        (folder / name).write_bytes(content)
    with pytest.warns(UserWarning, match="no pictures: 5 without an ending"):
        found = listed(folder)
    assert found[:4] == ["cat/0001", "cat/bomb", "cat/deep/3.webp", "cat/jpeg"]
    assert found[4:6] == ["cat/phone", "dog/1.JPG"]
    assert len(found) == 8


def test_links_are_followed(folder, tmp_path):
    image = Image.new("RGB", (4, 4))
    (tmp_path / "elsewhere/more").mkdir(parents=True)
    image.save(tmp_path / "elsewhere/more/9.png")
    link(folder / "cat/linked", tmp_path / "elsewhere")
    link(folder / "bird", tmp_path / "elsewhere/more")
    link(folder / "dog/9.png", tmp_path / "elsewhere/more/9.png")
    found = listed(folder)
    assert {"cat/linked/more/9.png", "bird/9.png", "dog/9.png"} < set(found)
    assert len(found) == 7
    assert sorted(listed(folder, "**/*.*")) == sorted(found)


def test_links_in_a_circle_are_refused(folder):
    before = listed(folder)
    link(folder / "cat/up", "..")
    link(folder / "cat/deep/itself", ".")
    link(folder / "cat/deep/cat", folder / "cat")
    link(folder / "all", folder)
    link(folder / "dog/loop", "loop")
    link(folder / "dog/gone.png", "nowhere.png")
    with pytest.warns(UserWarning, match="Left out of") as caught:
        assert listed(folder) == before
    (message,) = [str(w.message) for w in caught]
    assert "2 links to nowhere (gone.png, loop)" in message
    assert "4 links back to a folder on the way to it" in message
    with pytest.warns(UserWarning, match="4 links back to a folder on the way to it"):
        assert listed(folder, "**/*.*") == before
    with pytest.warns(UserWarning, match="1 link back to a folder on the way to it"):
        assert listed(folder, "*/*.*") == before[1:]


def test_two_ways_to_one_folder_of_a_class(folder):
    """Its images would lie on both sides of a split."""
    before = listed(folder)
    link(folder / "cat/too", folder / "cat/deep")
    with pytest.warns(UserWarning, match=r"1 folder that the class has already \(too\)"):
        assert listed(folder) == before


def test_a_pipe_is_not_opened(folder):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes here")
    os.mkfifo(folder / "dog/pipe")
    with pytest.warns(UserWarning, match="no pictures: 1 special"):
        assert len(listed(folder)) == 4


def test_load_image_folder_tells_of_images_without_class(folder):
    Image.new("RGB", (4, 4)).save(folder / "stray.png")
    with pytest.warns(UserWarning, match=r"1 image beside the sub-folders, .* \(stray.png\)"):
        assert len(load_image_folder(folder).paths) == 4


def test_a_class_without_images_does_not_vanish_in_silence(folder):
    (folder / "owl/deep").mkdir(parents=True)
    (folder / "fox").mkdir()
    (folder / "fox/notes.txt").write_text("no picture")
    with pytest.warns(
        UserWarning, match=r"2 sub-folders without images \(fox, owl\); .* 1 .txt"
    ) as caught:
        assert load_image_folder(folder).target_names == ["cat", "dog"]
    assert caught[0].filename == __file__


def test_load_image_folder_refuses(folder):
    (folder / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no folder"):
        load_image_folder(folder / "missing")
    with pytest.raises(FileNotFoundError, match="no images"):
        load_image_folder(folder / "empty")
    with pytest.raises(FileNotFoundError, match="no images"):
        load_image_folder(folder / "*" / "*.bmp")
    with pytest.raises(NotADirectoryError, match="is a file"):
        load_image_folder(folder / "dog" / "1.JPG")
    (folder / "empty/film.mpg").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"no images .*Left out: .* 1 .mpg\."):
        load_image_folder(folder / "empty")


def test_a_path_in_an_array_is_named_as_it_was_written():
    assert describe(np.array(["a.jpg"])[0], 3) == "Image 3 ('a.jpg')"
