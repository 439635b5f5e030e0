# SPDX-License-Identifier: Apache-2.0
check_PROGRAMS += tests/test_gguf tests/test_safetensors tests/test_source tests/test_store
tests_test_gguf_SOURCES = tests/test_gguf.c tests/mkgguf.c tests/mkgguf.h
tests_test_gguf_LDADD = $(TEST_LIBS)
tests_test_safetensors_SOURCES = tests/test_safetensors.c tests/file_util.h
tests_test_safetensors_LDADD = $(TEST_LIBS)
tests_test_source_SOURCES = tests/test_source.c tests/file_util.h tests/mkgguf.c tests/mkgguf.h
tests_test_source_LDADD = $(TEST_LIBS)
tests_test_store_SOURCES = tests/test_store.c tests/file_util.h tests/mkgguf.c tests/mkgguf.h
tests_test_store_LDADD = $(TEST_LIBS)
TESTS += tests/test_gguf tests/test_safetensors tests/test_source tests/test_store

# Every allocation of the library is made to fail once; libcore.la is static, so --wrap reaches it.
check_PROGRAMS += tests/test_file_oom
tests_test_file_oom_SOURCES = tests/test_file_oom.c tests/file_util.h tests/mkgguf.c tests/mkgguf.h
tests_test_file_oom_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=malloc -Wl,--wrap=calloc \
	-Wl,--wrap=realloc -Wl,--wrap=strdup -Wl,--wrap=free
tests_test_file_oom_LDADD = $(TEST_LIBS)
TESTS += tests/test_file_oom

# The corpora are made by make_file_corpus.py.
check_PROGRAMS += tests/fuzz/fuzz_gguf tests/fuzz/fuzz_safetensors tests/fuzz/fuzz_config tests/fuzz/fuzz_imatrix \
	tests/fuzz/fuzz_adapter
tests_fuzz_fuzz_gguf_SOURCES = tests/fuzz/fuzz_gguf.c $(FUZZ_MAIN)
tests_fuzz_fuzz_gguf_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_safetensors_SOURCES = tests/fuzz/fuzz_safetensors.c $(FUZZ_MAIN)
tests_fuzz_fuzz_safetensors_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_config_SOURCES = tests/fuzz/fuzz_config.c $(FUZZ_MAIN)
tests_fuzz_fuzz_config_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_imatrix_SOURCES = tests/fuzz/fuzz_imatrix.c $(FUZZ_MAIN)
tests_fuzz_fuzz_imatrix_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_adapter_SOURCES = tests/fuzz/fuzz_adapter.c $(FUZZ_MAIN)
tests_fuzz_fuzz_adapter_LDADD = $(FUZZ_LIBS)
TESTS += tests/fuzz/fuzz_gguf tests/fuzz/fuzz_safetensors tests/fuzz/fuzz_config tests/fuzz/fuzz_imatrix \
	tests/fuzz/fuzz_adapter
EXTRA_DIST += tests/fuzz/make_file_corpus.py \
	tests/fuzz/corpus/gguf tests/fuzz/corpus/safetensors tests/fuzz/corpus/config \
	tests/fuzz/corpus/imatrix tests/fuzz/corpus/adapter
