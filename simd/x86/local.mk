# SPDX-License-Identifier: Apache-2.0
# One convenience library per tier; a tier's list is its one place.
# While a list is empty, configure leaves the tier out.
if HAVE_KERN_AVX2
noinst_LTLIBRARIES += libkern_avx2.la
libcore_la_LIBADD += libkern_avx2.la
libkern_avx2_la_SOURCES = src/kern/unroll.h simd/x86/kern_avx2.c simd/x86/x86_vf256.h \
	simd/x86/x86_math.h simd/x86/x86_mmf.h simd/x86/x86_slots.h simd/x86/x86_mm256.h simd/x86/x86_rows.h \
	simd/x86/x86_tile256.h simd/x86/x86_row256.h simd/x86/x86_mm.h simd/x86/x86_resize.h simd/x86/x86_unpack.h
libkern_avx2_la_CFLAGS = $(KERN_CFLAGS) $(avx2_CFLAGS)
endif
if HAVE_KERN_AVXVNNI
noinst_LTLIBRARIES += libkern_avxvnni.la
libcore_la_LIBADD += libkern_avxvnni.la
libkern_avxvnni_la_SOURCES = simd/x86/kern_avxvnni.c simd/x86/x86_mm256.h simd/x86/x86_rows.h simd/x86/x86_tile256.h \
	simd/x86/x86_row256.h simd/x86/x86_mm.h simd/x86/x86_unpack.h
libkern_avxvnni_la_CFLAGS = $(KERN_CFLAGS) $(avxvnni_CFLAGS)
endif
if HAVE_KERN_AVX512
noinst_LTLIBRARIES += libkern_avx512.la
libcore_la_LIBADD += libkern_avx512.la
libkern_avx512_la_SOURCES = simd/x86/kern_avx512.c simd/x86/x86_vf512.h \
	simd/x86/x86_math.h simd/x86/x86_mmf.h simd/x86/x86_slots.h
libkern_avx512_la_CFLAGS = $(KERN_CFLAGS) $(avx512_CFLAGS)
endif
if HAVE_KERN_AVX512VNNI
noinst_LTLIBRARIES += libkern_avx512vnni.la
libcore_la_LIBADD += libkern_avx512vnni.la
libkern_avx512vnni_la_SOURCES = simd/x86/kern_avx512vnni.c simd/x86/x86_mm512.h simd/x86/x86_rows.h \
	simd/x86/x86_few512.h simd/x86/x86_duo512.h simd/x86/x86_side512.h simd/x86/x86_row512.h simd/x86/x86_mm.h simd/x86/x86_unpack.h
libkern_avx512vnni_la_CFLAGS = $(KERN_CFLAGS) $(avx512vnni_CFLAGS)
endif
if HAVE_KERN_AVX512BF16
noinst_LTLIBRARIES += libkern_avx512bf16.la
libcore_la_LIBADD += libkern_avx512bf16.la
libkern_avx512bf16_la_SOURCES = simd/x86/kern_avx512bf16.c simd/x86/x86_vf512.h simd/x86/x86_math.h \
	simd/x86/x86_attn_bf16.h simd/x86/x86_bf16.h simd/x86/x86_mm512.h simd/x86/x86_rows.h
libkern_avx512bf16_la_CFLAGS = $(KERN_CFLAGS) $(avx512bf16_CFLAGS)
endif
if HAVE_KERN_AMX
noinst_LTLIBRARIES += libkern_amx.la
libcore_la_LIBADD += libkern_amx.la
libkern_amx_la_SOURCES = simd/x86/kern_amx.c simd/x86/amx_attn.h simd/x86/amx_ops.h simd/x86/amx_model.h \
	simd/x86/x86_attn_bf16.h simd/x86/x86_bf16.h simd/x86/x86_vf512.h simd/x86/x86_math.h \
	simd/x86/x86_mm512.h simd/x86/x86_rows.h simd/x86/x86_mm.h simd/x86/x86_unpack.h
libkern_amx_la_CFLAGS = $(KERN_CFLAGS) $(amx_CFLAGS)
endif
