# SPDX-License-Identifier: Apache-2.0
libcore_la_SOURCES += \
	src/image/image.h src/image/decode.h \
	src/image/decode.c src/image/exif.c \
	src/image/jpeg.c src/image/png.c src/image/gif.c src/image/bmp.c src/image/webp.c src/image/stb.c \
	src/image/resize.c src/image/tiles.c src/image/png_write.c
