# SPDX-License-Identifier: Apache-2.0
check_PROGRAMS += tests/test_session tests/test_sample
tests_test_session_SOURCES = tests/test_session.c
tests_test_session_LDADD = $(TEST_LIBS)
tests_test_sample_SOURCES = tests/test_sample.c
tests_test_sample_LDADD = $(TEST_LIBS)
TESTS += tests/test_session tests/test_sample
