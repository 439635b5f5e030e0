libcore_la_SOURCES += src/session/session.h src/session/session.c src/session/picture.c \
	src/session/plan.c src/session/sample.c src/session/generate.c
