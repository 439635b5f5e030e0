# SPDX-License-Identifier: Apache-2.0
libcore_la_SOURCES += src/quant/types.c src/quant/types.h src/quant/blocks.h \
	src/quant/fit.c src/quant/fit.h src/quant/quantize.c src/quant/quantize.h
