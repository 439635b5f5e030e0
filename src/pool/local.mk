libcore_la_SOURCES += src/pool/pool.c src/pool/pool.h
