libcore_la_SOURCES += \
	src/base/err.c src/base/err.h \
	src/base/map.c src/base/map.h \
	src/base/mem.c src/base/mem.h \
	src/base/outfile.c src/base/outfile.h \
	src/base/sha256.c src/base/sha256.h \
	src/base/str.h \
	src/base/strmap.c
