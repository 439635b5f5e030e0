# SPDX-License-Identifier: Apache-2.0
# One convenience library per tier; a tier's list is its one place.
# While a list is empty, configure leaves the tier out.
if HAVE_KERN_NEON
noinst_LTLIBRARIES += libkern_neon.la
libcore_la_LIBADD += libkern_neon.la
libkern_neon_la_SOURCES = src/kern/unroll.h simd/arm/kern_neon.c simd/arm/arm_vf.h simd/arm/arm_unpack.h \
	simd/arm/arm_resize.h simd/arm/arm_mmf.h simd/arm/arm_tile_dot.h simd/arm/arm_mm.h
libkern_neon_la_CFLAGS = $(KERN_CFLAGS) $(neon_CFLAGS)
endif
if HAVE_KERN_DOTPROD
noinst_LTLIBRARIES += libkern_dotprod.la
libcore_la_LIBADD += libkern_dotprod.la
libkern_dotprod_la_SOURCES = simd/arm/kern_dotprod.c simd/arm/arm_vf.h simd/arm/arm_unpack.h \
	simd/arm/arm_tile_dot.h simd/arm/arm_mm.h
libkern_dotprod_la_CFLAGS = $(KERN_CFLAGS) $(dotprod_CFLAGS)
endif
if HAVE_KERN_I8MM
noinst_LTLIBRARIES += libkern_i8mm.la
libcore_la_LIBADD += libkern_i8mm.la
libkern_i8mm_la_SOURCES = simd/arm/kern_i8mm.c simd/arm/arm_vf.h simd/arm/arm_unpack.h \
	simd/arm/arm_tile_mmla.h simd/arm/arm_mm.h simd/arm/arm_bf16.h
libkern_i8mm_la_CFLAGS = $(KERN_CFLAGS) $(i8mm_CFLAGS)
endif
