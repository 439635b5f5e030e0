# SPDX-License-Identifier: Apache-2.0
check_PROGRAMS += tests/test_model
tests_test_model_SOURCES = tests/test_model.c
tests_test_model_LDADD = $(TEST_LIBS)
TESTS += tests/test_model
