"""Small pictures and sounds for the tests, made with the standard library."""

import math
import struct
import wave
import zlib


def png(path, width, height, pixel=lambda x, y: (x % 256, y % 256, 128)):
    """An 8-bit RGB picture."""
    rows = b"".join(b"\0" + bytes(v for x in range(width) for v in pixel(x, y)) for y in range(height))

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) +
                     chunk(b"IEND", b""))
    return path


def samples(seconds, rate=16000, frequency=300.0, channels=1):
    """A sweep, as little-endian 16-bit samples."""
    values = []
    for i in range(round(seconds * rate)):
        time = i / rate
        values += [round(12000 * math.sin(2 * math.pi * time * (frequency + 400 * time)))] * channels
    return struct.pack(f"<{len(values)}h", *values)


def wav(path, seconds, rate=16000, channels=1, frequency=300.0):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples(seconds, rate, frequency, channels))
    return path


def wav_header(rate, channels, data=b"\0" * 64):
    """A WAV file that says whatever it likes."""
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * 2 & 0xFFFFFFFF, channels * 2 & 0xFFFF, 16)
    return (b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" +
            struct.pack("<I", len(data)) + data)


def mel_frames(count):
    """Frames of `count` samples, as the front end makes them."""
    padded = -(-max(count, 513) // 128) * 128
    return (padded - 513) // 160 + 1


def sound_tokens(count):
    """Soft tokens of a sound of `count` samples at 16 kHz."""
    return -(-mel_frames(count) // 16)
