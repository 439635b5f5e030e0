libcore_la_SOURCES += src/api/api.h src/api/fit.c src/api/model.c src/api/text.c src/api/picture.c src/api/machine.c \
	src/api/imatrix.c src/api/quantize.c src/api/synth.c
