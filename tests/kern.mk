# SPDX-License-Identifier: Apache-2.0
check_PROGRAMS += tests/checkkern/checkkern
tests_checkkern_checkkern_SOURCES = tests/checkkern/checkkern.h tests/checkkern/main.c \
	tests/checkkern/harness.c tests/checkkern/check_mm.c tests/checkkern/check_vec.c \
	tests/checkkern/check_attn.c tests/checkkern/bench.c
tests_checkkern_checkkern_LDADD = libcore.la $(DEPS_LIBS)
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
