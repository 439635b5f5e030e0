# SPDX-License-Identifier: Apache-2.0
check_PROGRAMS += tests/checkkern/checkkern
tests_checkkern_checkkern_SOURCES = tests/checkkern/checkkern.h tests/checkkern/main.c \
	tests/checkkern/harness.c tests/checkkern/check_mm.c tests/checkkern/check_vec.c \
	tests/checkkern/check_attn.c tests/checkkern/bench.c
tests_checkkern_checkkern_LDADD = libcore.la $(DEPS_LIBS)
# The amx tier over a model of its instructions (simd/x86/amx_model.h), for CPUs without them.
if HAVE_KERN_AVX512BF16
check_LTLIBRARIES = libkern_amx_model.la
libkern_amx_model_la_SOURCES = simd/x86/kern_amx.c
libkern_amx_model_la_CPPFLAGS = -DAMX_MODEL $(AM_CPPFLAGS)
libkern_amx_model_la_CFLAGS = $(KERN_CFLAGS) $(avx512bf16_CFLAGS)
tests_checkkern_checkkern_LDADD += libkern_amx_model.la
endif
TESTS += tests/checkkern/checkkern

EXTRA_DIST += tests/data/quant/blocks.bin tests/oracle/quant_oracle.py tests/oracle/quantizers.py
if HAVE_CMOCKA
check_PROGRAMS += tests/test_quant
tests_test_quant_SOURCES = tests/test_quant.c
tests_test_quant_LDADD = $(TEST_LIBS)
check_PROGRAMS += tests/test_kern
tests_test_kern_SOURCES = tests/test_kern.c
tests_test_kern_LDADD = $(TEST_LIBS)
TESTS += tests/test_quant tests/test_kern
endif
