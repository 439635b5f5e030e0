#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/data/images/: small pictures of every kind, and expected.json with what Pillow makes of them.

    python3 -m venv V && V/bin/pip install pillow==9.4.0 && V/bin/python tests/oracle/image_oracle.py

Expected bytes are those of transformers' convert_to_rgb (RGBA over white, then RGB) after
ImageOps.exif_transpose. Where puna differs from Pillow on purpose, "by" says how the bytes were made.
"""
import hashlib
import io
import json
import os
import random
import struct
import sys
import zlib

import PIL
from PIL import Image, ImageOps

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "images")
rng = random.Random(7)
W, H = 37, 29
files = {}


def value(x, y, c):
    return (x * (5 + c) + y * (9 - 2 * c) + ((x * y) >> 2) * (c + 1)) & 255


def source(mode="RGB", w=W, h=H):
    im = Image.new(mode, (w, h))
    n = len(im.getbands())
    px = [tuple(value(x, y, c) for c in range(n)) for y in range(h) for x in range(w)]
    im.putdata(px if n > 1 else [p[0] for p in px])
    return im


def smooth(mode="RGB", w=W, h=H):
    """For lossy formats: small files, but every pixel different."""
    n = len(Image.new(mode, (1, 1)).getbands())
    im = Image.new(mode, (w, h))
    px = [tuple(int(x * 255 / w) if c % 3 == 0 else int(y * 255 / h) if c % 3 == 1 else
                int((x + y) * 255 / (w + h)) for c in range(n)) for y in range(h) for x in range(w)]
    im.putdata(px if n > 1 else [p[0] for p in px])
    return im


def to_rgb(im):
    if im.mode == "RGB":
        return im
    im = im.convert("RGBA")
    back = Image.new("RGBA", im.size, (255, 255, 255))
    return Image.alpha_composite(back, im).convert("RGB")


def add(name, data, rgb=None, by=None, note=None, tolerance=0):
    """rgb: (w, h, bytes) when the bytes do not come from Pillow."""
    entry = {"by": by or "Pillow"}
    if rgb is None:
        im = Image.open(io.BytesIO(data))
        im.load()
        im = to_rgb(ImageOps.exif_transpose(im))
        rgb = (im.width, im.height, im.tobytes())
    entry.update(width=rgb[0], height=rgb[1])
    if tolerance:  # compared byte by byte, so all bytes are needed
        entry.update(tolerance=tolerance, hex=rgb[2].hex())
    else:
        entry["sha256"] = hashlib.sha256(rgb[2]).hexdigest()
    if note:
        entry["note"] = note
    files[name] = entry
    with open(os.path.join(OUT, name), "wb") as f:
        f.write(data)


def save(im, fmt, **kw):
    b = io.BytesIO()
    im.save(b, fmt, **kw)
    return b.getvalue()


# ---- EXIF

def exif(orientation, order="<"):
    mark = b"II" if order == "<" else b"MM"
    return (mark + struct.pack(order + "HIH", 42, 8, 1) +
            struct.pack(order + "HHIHHI", 0x112, 3, 1, orientation, 0, 0))


def jpeg_with_exif(jpeg, tiff):
    body = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


# ---- PNG, by hand: every depth, filter and interlacing

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def paeth(a, b, c):
    p = a + b - c
    pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
    return a if pa <= pb and pa <= pc else b if pb <= pc else c


def filtered(rows, bpp):
    out, up = b"", None
    for row in rows:
        kind = rng.randrange(5)
        o = bytearray([kind])
        for i, v in enumerate(row):
            a = row[i - bpp] if i >= bpp else 0
            b = up[i] if up else 0
            c = up[i - bpp] if up and i >= bpp else 0
            o.append((v - (0, a, b, (a + b) >> 1, paeth(a, b, c))[kind]) & 255)
        out, up = out + bytes(o), row
    return out


def pack(samples, depth):
    if depth == 16:
        return b"".join(struct.pack(">H", s) for s in samples)
    out, acc, n = bytearray(), 0, 0
    for s in samples:
        acc, n = acc << depth | s, n + depth
        if n == 8:
            out.append(acc)
            acc = n = 0
    if n:
        out.append(acc << (8 - n))
    return bytes(out)


def png(color, depth, sample, w=W, h=H, interlace=0, plte=None, trns=None, extra=b"", pieces=1):
    """sample(x, y) -> tuple of channel values"""
    n = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    bpp = max(1, n * depth // 8)
    raw = b""
    for x0, y0, dx, dy in PASSES if interlace else [(0, 0, 1, 1)]:
        rows = [pack([s for x in range(x0, w, dx) for s in sample(x, y)], depth)
                for y in range(y0, h, dy)]
        raw += filtered([r for r in rows if r], bpp)
    z = zlib.compress(raw, 9)
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, color, 0, 0, interlace))
    if plte is not None:
        out += chunk(b"PLTE", plte)
    if trns is not None:
        out += chunk(b"tRNS", trns)
    out += extra
    step = -(-len(z) // pieces)
    for i in range(0, len(z), step):
        out += chunk(b"IDAT", z[i:i + step])
    return out + chunk(b"IEND", b"")


def sampler(n, depth):
    top = (1 << depth) - 1
    if depth == 16:
        return lambda x, y: tuple((value(x, y, c) << 8 | value(y, x, c)) for c in range(n))
    return lambda x, y: tuple(value(x, y, c) & top for c in range(n))


def rgb_of(w, h, f):
    return (w, h, bytes(v for y in range(h) for x in range(w) for v in f(x, y)))


def make_png():
    for depth in (1, 2, 4, 8):
        for lace in (0, 1):
            add(f"grey{depth}{'i' * lace}.png", png(0, depth, sampler(1, depth), interlace=lace))
    for color, name in ((2, "rgb"), (4, "la"), (6, "rgba")):
        n = {2: 3, 4: 2, 6: 4}[color]
        for depth in (8, 16):
            add(f"{name}{depth}.png", png(color, depth, sampler(n, depth)))
        add(f"{name}i.png", png(color, 8, sampler(n, 8), interlace=1, pieces=7))
    for lace in (0, 1):
        add(f"grey16{'i' * lace}.png", png(0, 16, sampler(1, 16), interlace=lace),
            rgb=rgb_of(W, H, lambda x, y: (value(x, y, 0),) * 3), by="high byte",
            note="Pillow clips 16-bit grey at 255 when it converts to RGB: a white picture")
    white = lambda hit, v: (255, 255, 255) if hit else v
    key = sampler(1, 16)(3, 4)[0]
    add("grey16t.png", png(0, 16, sampler(1, 16), trns=struct.pack(">H", key)),
        rgb=rgb_of(W, H, lambda x, y: white(sampler(1, 16)(x, y)[0] == key, (value(x, y, 0),) * 3)),
        by="high byte", note="transparency compared with all 16 bits")
    add("rgb16t.png", png(2, 16, sampler(3, 16), trns=struct.pack(">HHH", *sampler(3, 16)(5, 6))))
    add("grey8t.png", png(0, 8, sampler(1, 8), trns=struct.pack(">H", value(3, 4, 0))))
    add("rgb8t.png", png(2, 8, sampler(3, 8), trns=struct.pack(">HHH", *sampler(3, 8)(3, 4))),
        note="mode RGB is passed on as it is: the transparent colour stays a colour")
    pal = bytes(rng.randrange(256) for _ in range(768))
    alpha = bytes(rng.randrange(256) for _ in range(256))
    for depth in (1, 2, 4, 8):
        k = 1 << depth
        add(f"pal{depth}.png", png(3, depth, sampler(1, depth), plte=pal[:3 * k]))
        add(f"pal{depth}t.png", png(3, depth, sampler(1, depth), plte=pal[:3 * k], trns=alpha[:k],
                                    interlace=depth & 1))
    add("palt3.png", png(3, 8, sampler(1, 8), plte=pal, trns=b"\x00\x80\xff"))
    index = lambda x, y: value(x, y, 0)
    add("pal8short.png", png(3, 8, sampler(1, 8), plte=pal[:300]),
        rgb=rgb_of(W, H, lambda x, y: (pal + bytes(768))[3 * index(x, y):][:3] if index(x, y) < 100 else bytes(3)),
        by="black past the palette", note="as Pillow 13; 9.4 had a grey ramp there")
    for w, h in ((1, 1), (1, 40), (40, 1), (3, 2)):
        for lace in (0, 1):
            add(f"rgb{w}x{h}{'i' * lace}.png", png(2, 8, sampler(3, 8), w=w, h=h, interlace=lace))
    add("exif6.png", png(2, 8, sampler(3, 8), w=9, h=7, extra=chunk(b"eXIf", exif(6, ">"))))
    add("icc.png", save(source(), "PNG", icc_profile=bytes(range(256)) * 4), note="profile is ignored")
    add("apng.png", save(source(), "PNG", save_all=True, append_images=[ImageOps.invert(source())]))


def make_jpeg():
    for name, sub in (("444", 0), ("422", 1), ("420", 2)):
        add(f"rgb{name}.jpg", save(smooth(), "JPEG", subsampling=sub, quality=80))
    add("noise420.jpg", save(source(), "JPEG", quality=70))
    add("grey.jpg", save(smooth("L"), "JPEG", quality=80))
    add("progressive.jpg", save(smooth(w=70, h=50), "JPEG", progressive=True, quality=60))
    add("progressivegrey.jpg", save(source("L"), "JPEG", progressive=True))
    cmyk = save(smooth("CMYK"), "JPEG", quality=90)
    add("cmyk.jpg", cmyk)
    at = cmyk.index(b"Adobe")
    add("ycck.jpg", cmyk[:at + 11] + b"\x02" + cmyk[at + 12:], note="Adobe transform 2")
    add("cmykplain.jpg", cmyk[:at - 4] + cmyk[at + 12:], note="no Adobe marker")
    add("rgbkeep.jpg", save(smooth(), "JPEG", qtables="web_high", optimize=True))
    for o in range(1, 9):
        im = smooth(w=17, h=11)
        add(f"exif{o}.jpg", jpeg_with_exif(save(im, "JPEG"), exif(o, "<>"[o & 1])))
    plain = save(smooth(w=17, h=11), "JPEG")
    same = Image.open(io.BytesIO(plain)).convert("RGB")
    for name, tiff in (("offset", b"II*\0\xff\xff\xff\x7f" + bytes(20)), ("empty", b""),
                       ("value", exif(9)), ("zero", exif(0)), ("cut", exif(6)[:15]),
                       ("text", b"hello, this is not EXIF at all")):
        add(f"badexif{name}.jpg", jpeg_with_exif(plain, tiff), rgb=(17, 11, same.tobytes()),
            by="Pillow without EXIF")


def lzw(indices, bits, clears=True):
    """clears False: the table, once full, is kept to the end (deferred clear)."""
    out, acc, n = bytearray(), 0, 0
    clear = 1 << bits
    table, width = {}, bits + 1

    def put(code):
        nonlocal acc, n
        acc |= code << n
        n += width
        while n >= 8:
            out.append(acc & 255)
            acc >>= 8
            n -= 8

    def reset():
        nonlocal table, width
        table, width = {(i,): i for i in range(clear)}, bits + 1
        return clear + 2

    put(clear)
    after = reset()
    cur = ()
    for i in indices:
        if cur + (i,) in table:
            cur += (i,)
            continue
        put(table[cur])
        if after < 4096:
            table[cur + (i,)] = after
            after += 1
            if after == (1 << width) + 1 and width < 12:
                width += 1
        elif clears:
            put(clear)
            after = reset()
        cur = (i,)
    put(table[cur])
    put(clear + 1)
    if n:
        out.append(acc & 255)
    blocks = b"".join(bytes([len(out[i:i + 255])]) + bytes(out[i:i + 255]) for i in range(0, len(out), 255))
    return bytes([bits]) + blocks + b"\0"


def gif(screen, frame, bits, idx, pal=None, local=None, transparent=None, lace=False, clears=True, tail=b""):
    x, y, w, h = frame
    rows = list(range(h))
    if lace:
        rows = [r for s, d in ((0, 8), (4, 8), (2, 4), (1, 2)) for r in range(s, h, d)]
    out = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80 | bits - 1 if pal else 0, 0, 0) + (pal or b"")
    if transparent is not None:
        out += b"\x21\xf9\x04" + struct.pack("<BHBB", 1, 0, transparent, 0)
    out += b"," + struct.pack("<HHHHB", x, y, w, h, (0x80 | bits - 1 if local else 0) | 0x40 * lace) + (local or b"")
    return out + lzw([idx(c, r) for r in rows for c in range(w)], max(bits, 2), clears) + tail + b";"


def make_gif():
    pal = bytes(rng.randrange(256) for _ in range(768))
    other = bytes(rng.randrange(256) for _ in range(768))
    idx = lambda bits: lambda x, y: value(x, y, 0) & ((1 << bits) - 1)
    full = (0, 0, W, H)
    for bits in (1, 2, 4, 8):
        add(f"plain{bits}.gif", gif((W, H), full, bits, idx(bits), pal[:3 << bits]))
    add("lace.gif", gif((W, H), full, 4, idx(4), pal[:48], lace=True))
    add("trans.gif", gif((W, H), full, 4, idx(4), pal[:48], transparent=5))
    add("local.gif", gif((W, H), full, 4, idx(4), pal[:48], local=other[:48], transparent=2, lace=True))
    add("onlylocal.gif", gif((W, H), full, 4, idx(4), local=other[:48]))
    add("nopalette.gif", gif((W, H), full, 8, idx(8)))
    add("part.gif", gif((W, H), (5, 6, 20, 15), 4, idx(4), pal[:48]))
    add("parttrans.gif", gif((W, H), (5, 6, 20, 15), 4, idx(4), pal[:48], transparent=3))
    add("sticksout.gif", gif((20, 10), (5, 6, 20, 15), 4, idx(4), pal[:48]))
    noise = [rng.randrange(256) for _ in range(120 * 100)]
    for name, clears in (("clear", True), ("deferred", False)):
        add(f"long{name}.gif", gif((120, 100), (0, 0, 120, 100), 8, lambda x, y: noise[y * 120 + x] & 0x33, pal,
                                   clears=clears))
    anim = [source().quantize(16), ImageOps.invert(source()).quantize(16)]
    add("anim.gif", save(anim[0], "GIF", save_all=True, append_images=anim[1:], duration=50, loop=0))


def bmp(w, h, bpp, rows, compression=0, masks=b"", pal=b"", top_down=False, header=40, used=0):
    stride = (w * bpp + 31) // 32 * 4
    body = b"".join(r + bytes(stride - len(r)) for r in (rows if top_down else reversed(rows)))
    if header == 12:
        head = struct.pack("<IHHHH", 12, w, h, 1, bpp)
    else:
        head = struct.pack("<IiiHHIIiiII", header, w, -h if top_down else h, 1, bpp, compression, len(body), 0, 0, used, 0)
        head += (masks + bytes(header))[:header - 40] if header > 40 else b""
    tail = (masks if header == 40 else b"") + pal
    start = 14 + len(head) + len(tail)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + tail + body


def make_bmp():
    add("rgb.bmp", save(source(), "BMP"))
    add("grey.bmp", save(source("L"), "BMP"))
    add("one.bmp", save(source("L").convert("1"), "BMP"))
    add("pal.bmp", save(source().quantize(100), "BMP"))
    pal = bytes(v if i % 4 != 3 else 0 for i, v in enumerate(rng.randrange(256) for _ in range(1024)))
    rows4 = [pack([value(x, y, 0) & 15 for x in range(W)], 4) for y in range(H)]
    add("four.bmp", bmp(W, H, 4, rows4, pal=pal[:64]))
    add("fourshort.bmp", bmp(W, H, 4, [pack([value(x, y, 0) % 10 for x in range(W)], 4) for y in range(H)],
                             pal=pal[:40], used=10))
    rows8 = [bytes(value(x, y, 0) for x in range(W)) for y in range(H)]
    add("os2.bmp", bmp(W, H, 8, rows8, pal=bytes(v for i, v in enumerate(pal) if i % 4 != 3), header=12))
    add("topdown.bmp", bmp(W, H, 8, rows8, pal=pal, top_down=True))
    rows32 = [b"".join(bytes(value(x, y, c) for c in range(4)) for x in range(W)) for y in range(H)]
    add("rgb32.bmp", bmp(W, H, 32, rows32), note="the fourth byte is not alpha")
    m32 = struct.pack("<IIII", 0xff0000, 0xff00, 0xff, 0xff000000)
    add("rgba32.bmp", bmp(W, H, 32, rows32, compression=3, masks=m32, header=124))
    add("fields32.bmp", bmp(W, H, 32, rows32, compression=3, masks=m32[:12]))
    rows16 = [b"".join(struct.pack("<H", value(x, y, 0) << 8 | value(x, y, 1)) for x in range(W)) for y in range(H)]
    add("rgb555.bmp", bmp(W, H, 16, rows16), tolerance=1, note="Pillow scales 5 bits by 255/31 cut off")
    add("rgb565.bmp", bmp(W, H, 16, rows16, compression=3, masks=struct.pack("<III", 0xf800, 0x7e0, 0x1f)),
        tolerance=1)


def make_webp():
    add("lossy.webp", save(smooth(), "WEBP", quality=60))
    add("lossless.webp", save(source(), "WEBP", lossless=True))
    add("lossyalpha.webp", save(smooth("RGBA"), "WEBP", quality=60))
    add("losslessalpha.webp", save(smooth("RGBA"), "WEBP", lossless=True, exact=True))
    add("exif8.webp", save(smooth(w=17, h=11), "WEBP", lossless=True, exif=b"Exif\0\0" + exif(8)))
    frames = [smooth(), ImageOps.invert(smooth())]
    add("anim.webp", save(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True))
    one = save(smooth("RGBA", 16, 12), "WEBP", lossless=True)
    at = one.index(b"VP8L")
    frame = b"ANMF" + struct.pack("<I", 16 + len(one) - at) + struct.pack("<I", 4)[:3] + struct.pack("<I", 3)[:3] + \
        struct.pack("<I", 15)[:3] + struct.pack("<I", 11)[:3] + struct.pack("<I", 100)[:3] + b"\0" + one[at:]
    body = b"WEBPVP8X" + struct.pack("<IBBBB", 10, 0x12, 0, 0, 0) + struct.pack("<I", W - 1)[:3] + \
        struct.pack("<I", H - 1)[:3] + b"ANIM" + struct.pack("<IIH", 6, 0xff00ff00, 0) + frame + frame
    add("animpart.webp", b"RIFF" + struct.pack("<I", len(body)) + body)


os.makedirs(OUT, exist_ok=True)
make_png()
make_jpeg()
make_gif()
make_bmp()
make_webp()
with open(os.path.join(OUT, "expected.json"), "w") as f:
    json.dump({"pillow": PIL.__version__, "python": sys.version.split()[0], "files": files}, f, indent=1)
    f.write("\n")
print(len(files), "pictures,", sum(os.path.getsize(os.path.join(OUT, n)) for n in files), "bytes")
