# SPDX-License-Identifier: Apache-2.0
libcore_la_SOURCES += src/convert/convert.h src/convert/header.c src/convert/mix.c src/convert/plan.c \
	src/convert/write.c
