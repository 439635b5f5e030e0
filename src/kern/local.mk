# SPDX-License-Identifier: Apache-2.0
libcore_la_SOURCES += src/kern/kern.h src/kern/kern_list.inc src/kern/kern_math.h \
	src/kern/attn_tmpl.h src/kern/vec_tmpl.h src/kern/kv_layout.h src/kern/kern_layout.c \
	src/kern/kern_c.c src/kern/kern_c.h \
	src/kern/kern_openblas.c src/kern/kern_select.c src/kern/measure.c src/kern/measure.h
