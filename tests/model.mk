# SPDX-License-Identifier: Apache-2.0
check_PROGRAMS += tests/test_model tests/test_w8a8
tests_test_model_SOURCES = tests/test_model.c
tests_test_model_LDADD = $(TEST_LIBS)
tests_test_w8a8_SOURCES = tests/test_w8a8.c
tests_test_w8a8_LDADD = $(TEST_LIBS)
TESTS += tests/test_model tests/test_w8a8

check_PROGRAMS += tests/test_lora
tests_test_lora_SOURCES = tests/test_lora.c
tests_test_lora_LDADD = $(TEST_LIBS)
TESTS += tests/test_lora
EXTRA_DIST += tests/oracle/compare_lora.py \
	tests/data/lora/cases.json tests/data/lora/golden.safetensors \
	tests/data/lora/pictures/adapter_config.json tests/data/lora/pictures/adapter_model.safetensors \
	tests/data/lora/text/adapter_config.json tests/data/lora/text/adapter_model.safetensors

check_PROGRAMS += tests/test_fit
tests_test_fit_SOURCES = tests/test_fit.c
tests_test_fit_LDADD = $(TEST_LIBS)
TESTS += tests/test_fit
