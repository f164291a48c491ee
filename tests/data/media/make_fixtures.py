"""Makes the pictures and sounds of this folder, and what Pillow makes of the pictures.

Run with Pillow 13.0.0, NumPy 2.4.6 and soundfile 0.14.0 in this folder; regenerate, never edit. NAME.rgb holds the pixels
of NAME as transformers' image loader gives them: ImageOps.exif_transpose, then convert("RGB"). The two 16-bit pictures are
the exception: Pillow clips 16-bit grey at 255, we keep the high byte of both.
resize/ and mel/ come from the project's goldens (transformers); only resize/hashes.txt is made here.
"""

import pathlib
import struct
import zlib

import numpy as np
import soundfile
from PIL import Image, ImageOps

HERE = pathlib.Path(__file__).parent
IMAGES, SOUNDS = HERE / "image", HERE / "audio"
W, H = 37, 23


def scene(width=W, height=H):
    """Smooth colours with a hard edge; no two quadrants look alike."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    rgb = np.stack([40 + 200 * x / width, 30 + 210 * y / height, 128 + 100 * np.sin(x / 5 + y / 7)], axis=-1)
    rgb[2 : height // 3, 3 : width // 4] = (250, 10, 20)
    return rgb.round().clip(0, 255).astype(np.uint8)


def save(name, picture, **options):
    picture.save(IMAGES / name, **options)
    expect(name)


def expect(name):
    with Image.open(IMAGES / name) as picture:
        pixels = np.array(ImageOps.exif_transpose(picture).convert("RGB"))
    write_expected(name, pixels)


def write_expected(name, pixels):
    height, width, _ = pixels.shape
    (IMAGES / f"{name}.rgb").write_bytes(struct.pack("<II", width, height) + pixels.tobytes())


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, bits, color, raw, interlace=0):
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


def rows(pixels):
    return b"".join(b"\0" + row.tobytes() for row in pixels)


def pngs():
    rgb = scene()
    picture = Image.fromarray(rgb)
    alpha = Image.fromarray(np.linspace(0, 255, W * H).reshape(H, W).astype(np.uint8))
    rgba = picture.copy()
    rgba.putalpha(alpha)
    palette = picture.quantize(16)
    save("rgb.png", picture)
    save("rgba.png", rgba)
    save("gray.png", picture.convert("L"))
    save("gray_alpha.png", rgba.convert("LA"))
    save("gray_1bit.png", picture.convert("1"))
    save("palette.png", palette)
    save("palette_transparent.png", palette, transparency=3)
    save("rgb_transparent.png", picture, transparency=(250, 10, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    save("exif.png", picture, exif=exif)

    (IMAGES / "gray_4bit.png").write_bytes(png(W, H, 4, 0, rows(np.tile(np.arange(19, dtype=np.uint8) * 13, (H, 1)))))
    expect("gray_4bit.png")
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    raw = b"".join(rows(rgb[y::dy, x::dx]) for x, y, dx, dy in passes)
    (IMAGES / "interlaced.png").write_bytes(png(W, H, 8, 2, raw, interlace=1))
    expect("interlaced.png")

    wide = rgb.astype(">u2") * 256 + np.arange(W, dtype=np.uint16)[None, :, None] * 6
    (IMAGES / "rgb_16bit.png").write_bytes(png(W, H, 16, 2, rows(wide.astype(">u2"))))
    write_expected("rgb_16bit.png", rgb)
    (IMAGES / "gray_16bit.png").write_bytes(png(W, H, 16, 0, rows(wide[:, :, 0].astype(">u2"))))
    write_expected("gray_16bit.png", np.repeat(rgb[:, :, :1], 3, axis=2))


def jpegs():
    picture = Image.fromarray(scene())
    save("rgb.jpg", picture, quality=90, subsampling=0)
    save("subsampled.jpg", picture, quality=80, subsampling=2)
    save("progressive.jpg", picture, quality=80, progressive=True)
    save("gray.jpg", picture.convert("L"), quality=90)
    save("cmyk.jpg", picture.convert("CMYK"), quality=90)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        save(f"orientation_{orientation}.jpg", Image.fromarray(scene(14, 9)), quality=95, exif=exif)


def webps_and_gifs():
    picture = Image.fromarray(scene())
    other = Image.fromarray(scene()[::-1].copy())
    rgba = picture.copy()
    rgba.putalpha(Image.fromarray(np.linspace(0, 255, W * H).reshape(H, W).astype(np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = 8
    save("lossy.webp", picture, quality=80)
    save("lossless.webp", picture, lossless=True)
    save("alpha.webp", rgba, lossless=True, exact=True)
    save("lossy_alpha.webp", rgba, quality=80)
    save("exif.webp", picture, lossless=True, exif=exif)
    save("animated.webp", picture, save_all=True, append_images=[other], lossless=True, duration=100)
    save("still.gif", picture.quantize(16), interlace=0)
    save("interlaced.gif", picture.quantize(16), interlace=1)
    save("animated.gif", picture.quantize(16), save_all=True, append_images=[other.quantize(16)], duration=100)
    save("transparent.gif", picture.quantize(16), transparency=2)
    # The logical screen larger than the frame, and smaller.
    data = bytearray((IMAGES / "transparent.gif").read_bytes())
    data[6:10] = struct.pack("<HH", W + 9, H + 4)
    (IMAGES / "large_screen.gif").write_bytes(data)
    expect("large_screen.gif")
    data[6:10] = struct.pack("<HH", W - 9, H - 4)
    (IMAGES / "small_screen.gif").write_bytes(data)
    expect("small_screen.gif")


def bad_images():
    bad = IMAGES / "bad"
    good = {name: (IMAGES / name).read_bytes() for name in ("rgb.png", "progressive.jpg", "still.gif", "lossless.webp")}
    for name, data in good.items():
        (bad / f"truncated_{name}").write_bytes(data[: len(data) * 2 // 3])
    (bad / "empty.png").write_bytes(b"")
    (bad / "text.png").write_bytes(b"This is not a picture, whatever its name says.\n")
    (bad / "pixels_30000x30000.png").write_bytes(png(30000, 30000, 8, 2, b"\0" * 100))
    (bad / "bomb_5000x5000.png").write_bytes(png(5000, 5000, 1, 0, b"\0" * (5000 * 626)))
    (bad / "no_pixels.png").write_bytes(png(0, 5, 8, 2, b""))
    (bad / "negative_size.png").write_bytes(png(0x80000001, 5, 8, 2, b""))
    (bad / "first_chunk_is_not_the_header.png").write_bytes(
        good["rgb.png"][:8] + chunk(b"tEXt", struct.pack(">II", W, H) + b"abcde") + good["rgb.png"][8:])
    damaged = bytearray(good["rgb.png"])
    damaged[-30] ^= 0x55
    (bad / "wrong_checksum.png").write_bytes(damaged)
    start = good["progressive.jpg"].rindex(b"\xff\xda")
    scan = good["progressive.jpg"][start:-2]
    (bad / "bomb_300_scans.jpg").write_bytes(good["progressive.jpg"][:-2] + scan * 300 + b"\xff\xd9")
    huge = bytearray((IMAGES / "rgb.jpg").read_bytes())
    frame = huge.index(b"\xff\xc0")
    huge[frame + 5 : frame + 9] = struct.pack(">HH", 65500, 65500)
    (bad / "pixels_65500x65500.jpg").write_bytes(huge)
    huge[frame + 5 : frame + 9] = struct.pack(">HH", 0, 7)
    (bad / "no_rows.jpg").write_bytes(huge)
    huge = bytearray(good["still.gif"])
    huge[6:10] = b"\xff\xff\xff\xff"
    (bad / "pixels_65535x65535.gif").write_bytes(huge)
    (bad / "no_frame.gif").write_bytes(good["still.gif"][:13] + b";")
    huge = bytearray(good["lossless.webp"])
    at = huge.index(b"VP8L") + 9
    huge[at : at + 4] = b"\xff\xff\xff\x0f"
    (bad / "pixels_16384x16384.webp").write_bytes(huge)


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def resize_hashes():
    """FNV-1a (64 bit) of the whole picture as Pillow resizes it: file, width, height, hash."""
    lines = []
    for path in sorted((HERE / "resize").glob("*.png")):
        picture = Image.open(path).convert("RGB")
        for width, height in ((768, 768), (512, 512), (256, 256), (picture.width, 77), (91, picture.height), (1, 1)):
            resized = picture.resize((width, height), Image.Resampling.BILINEAR)
            lines.append(f"{path.name} {width} {height} {fnv1a(resized.tobytes()):016x}\n")
    (HERE / "resize" / "hashes.txt").write_text("".join(lines))


def tone(rate, seconds=0.25, hertz=1000.0):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


def sounds():
    """A tone of 1 kHz at amplitude 0.5, 0.25 s long (f32: 0.125 s); all channels but the first are silent."""
    def write(name, rate, channels=1, seconds=0.25, **options):
        data = tone(rate, seconds)
        if channels > 1:
            data = np.stack([data] + [np.zeros_like(data)] * (channels - 1), axis=-1)
        soundfile.write(SOUNDS / name, data.astype(np.float32), rate, **options)

    write("s16_16000.wav", 16000, subtype="PCM_16")
    write("u8_8000.wav", 8000, subtype="PCM_U8")
    write("s24_16000.wav", 16000, subtype="PCM_24")
    write("ulaw_8000.wav", 8000, subtype="ULAW")
    write("f32_44100_stereo.wav", 44100, 2, 0.125, subtype="FLOAT")
    write("s16_12000_six_channels.wav", 12000, 6, subtype="PCM_16")
    write("s16_22050.rf64.wav", 22050, format="RF64", subtype="PCM_16")
    write("s16_48000_stereo.flac", 48000, 2, subtype="PCM_16")
    write("vorbis_44100_stereo.ogg", 44100, 2, format="OGG", subtype="VORBIS")
    write("opus_48000.ogg", 48000, format="OGG", subtype="OPUS")
    write("layer3_44100_stereo.mp3", 44100, 2, format="MP3")
    write("s16_11025.aiff", 11025, subtype="PCM_16")
    mp3 = (SOUNDS / "layer3_44100_stereo.mp3").read_bytes()
    tag = b"TIT2" + struct.pack(">IH", 6, 0) + b"\0hello"
    (SOUNDS / "id3_44100_stereo.mp3").write_bytes(b"ID3\x03\0\0\0\0\0" + bytes([len(tag)]) + tag + mp3)


def bad_sounds():
    bad = SOUNDS / "bad"
    for name in ("s16_16000.wav", "s16_48000_stereo.flac", "s16_11025.aiff"):
        data = (SOUNDS / name).read_bytes()
        (bad / f"truncated_{name}").write_bytes(data[: len(data) * 2 // 3])
    (bad / "empty.wav").write_bytes(b"")
    (bad / "text.mp3").write_bytes(b"This is not a sound, whatever its name says.\n")
    (bad / "header_only.flac").write_bytes(b"fLaC")
    (bad / "header_only.ogg").write_bytes(b"OggS" + b"\0" * 60)
    (bad / "id3_only.mp3").write_bytes(b"ID3\x03\0\0\0\0\0\x7f" + b"\0" * 40)


if __name__ == "__main__":
    for folder in (IMAGES / "bad", SOUNDS / "bad"):
        folder.mkdir(parents=True, exist_ok=True)
    pngs()
    jpegs()
    webps_and_gifs()
    bad_images()
    resize_hashes()
    sounds()
    bad_sounds()
