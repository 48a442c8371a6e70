"""Small pictures with text as Pillow and piexif write them: writes picture.json beside this file.

A case has a file (hex), what Pillow sees in it after the WebUI's steps (orientation, transparency on
white, RGB), and the text that the WebUI would show. `pixels` is null where JPEG or lossy decoders
may differ.

Needs: pip install pillow==13.0.0 piexif==1.1.3
Run:   python picture.py
"""

import io
import json
import random
from pathlib import Path

import piexif
import piexif.helper
import PIL
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

WIDTH, HEIGHT = 5, 3
LATIN = "café, (ink:1.2) <lora:ink:0.8>\nNegative prompt: ¿?\nSteps: 20, Seed: 1, Size: 5x3"
OTHER = "墨で描く 🖌\nNegative prompt: ぼやけ\nSteps: 20, Sampler: Euler a, Seed: 1"
rng = random.Random(3)


def picture(mode):
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}[mode]
    return Image.frombytes(mode, (WIDTH, HEIGHT), rng.randbytes(WIDTH * HEIGHT * channels))


def save(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def text(*entries):
    info = PngInfo()
    for key, value, zipped in entries:
        info.add_text(key, value, zip=zipped)
    return info


def with_exif(data, orientation=1, comment=None):
    fields = {"0th": {piexif.ImageIFD.Orientation: orientation}, "Exif": {}}
    if comment is not None:
        dumped = piexif.helper.UserComment.dump(comment, encoding="unicode")
        fields["Exif"][piexif.ExifIFD.UserComment] = dumped
    file = io.BytesIO()
    piexif.insert(piexif.dump(fields), data, file)
    return file.getvalue()


def case(name, data, expected_text=None, exact=True):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "#ffffff")
        white.paste(image, mask=image)
        image = white
    return {
        "name": name,
        "file": data.hex(),
        "size": list(image.size),
        "pixels": image.convert("RGB").tobytes().hex() if exact else None,
        "text": expected_text,
    }


palette = picture("RGB").quantize(4)
rgb = picture("RGB")
cases = [
    case("RGB, no text", save(rgb, "PNG")),
    case("tEXt", save(rgb, "PNG", pnginfo=text(("parameters", LATIN, False))), LATIN),
    case("iTXt", save(rgb, "PNG", pnginfo=text(("parameters", OTHER, False))), OTHER),
    case("zTXt", save(rgb, "PNG", pnginfo=text(("parameters", LATIN, True))), LATIN),
    case("compressed iTXt", save(rgb, "PNG", pnginfo=text(("parameters", OTHER, True))), OTHER),
    case(
        "the last of a key counts",
        save(
            rgb,
            "PNG",
            pnginfo=text(
                ("Comment", "a", False), ("parameters", "b", False), ("parameters", "c", False)
            ),
        ),
        "c",
    ),
    case("RGBA", save(picture("RGBA"), "PNG")),
    case("grey with alpha", save(picture("LA"), "PNG")),
    case("grey", save(picture("L"), "PNG")),
    case("palette", save(palette, "PNG")),
    case("palette with a transparent colour", save(palette, "PNG", transparency=1)),
    case("WebP", save(rgb, "WEBP", lossless=True)),
    case("WebP with alpha", save(picture("RGBA"), "WEBP", lossless=True, exact=True)),
    case("WebP with a comment", with_exif(save(rgb, "WEBP", lossless=True), 1, OTHER), OTHER),
    case("JPEG", save(rgb, "JPEG"), exact=False),
    case("JPEG with a comment", with_exif(save(rgb, "JPEG"), 1, OTHER), OTHER, exact=False),
    case("JPEG on its side", with_exif(save(rgb, "JPEG"), 6, LATIN), LATIN, exact=False),
    *(
        case(f"orientation {turn}", with_exif(save(rgb, "WEBP", lossless=True), turn))
        for turn in range(2, 9)
    ),
]
report = {
    "made_by": "picture.py",
    "versions": {"pillow": PIL.__version__, "piexif": piexif.VERSION},
    "cases": cases,
}
Path(__file__).with_name("picture.json").write_text(
    json.dumps(report, indent=1, ensure_ascii=False) + "\n"
)
