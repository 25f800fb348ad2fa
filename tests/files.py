"""Encoded pictures, for several test modules."""

import io
import zlib

import numpy as np
from PIL import Image


def encode(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def oriented(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def xmp(orientation):
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description '
        b'tiff:Orientation="%d"/></x:xmpmeta>' % orientation
    )


def chunk(kind, content):
    """A chunk of a PNG file."""
    return (
        len(content).to_bytes(4, "big")
        + kind
        + content
        + zlib.crc32(kind + content).to_bytes(4, "big")
    )


def tagged_files(photo):
    """A picture that is to be turned by a quarter, in every format that can say so."""
    exif = oriented(6)
    plain = encode(photo, "PNG")
    end = plain.rindex(b"IEND") - 4
    profile = b"Raw profile type exif\0\0" + zlib.compress(
        b"\nexif\n%8d\n%s\n" % (len(exif.tobytes()), exif.tobytes().hex().encode())
    )
    compressed = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp(6))
    files = {
        "JPEG": encode(photo, "JPEG", exif=exif),
        "progressive": encode(photo, "JPEG", exif=exif, progressive=True),
        "grey": encode(photo.convert("L"), "JPEG", exif=exif),
        "CMYK": encode(photo.convert("CMYK"), "JPEG", exif=exif),
        "MPO": encode(photo, "MPO", exif=exif, save_all=True, append_images=[photo]),
        "PNG": encode(photo, "PNG", exif=exif),
        "palette": encode(photo.quantize(64), "PNG", exif=exif),
        "16 bits": encode(
            Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257),
            "PNG",
            exif=exif,
        ),
        "RGBA": encode(photo.convert("RGBA"), "PNG", exif=exif),
        "PNG, behind the pixels": plain[:end] + chunk(b"eXIf", exif.tobytes()[6:]) + plain[end:],
        "PNG, raw profile": plain[:33] + chunk(b"zTXt", profile) + plain[33:],
        "PNG, XMP": plain[:33] + chunk(b"iTXt", compressed) + plain[33:],
        "WEBP": encode(photo, "WEBP", exif=exif, lossless=True),
        "TIFF": encode(photo, "TIFF", exif=exif),
    }
    head = b"http://ns.adobe.com/xap/1.0/\0" + xmp(6)
    jpeg = encode(photo, "JPEG")
    xmp_jpeg = jpeg[:2] + b"\xff\xe1" + (len(head) + 2).to_bytes(2, "big") + head + jpeg[2:]
    if Image.open(io.BytesIO(xmp_jpeg)).getexif().get(0x0112):  # not in the oldest Pillow
        files["JPEG, XMP"] = xmp_jpeg
    return files
