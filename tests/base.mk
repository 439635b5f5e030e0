check_PROGRAMS += tests/test_base tests/test_base_map
tests_test_base_SOURCES = tests/test_base.c
tests_test_base_LDADD = $(TEST_LIBS)
tests_test_base_map_SOURCES = tests/test_base_map.c
tests_test_base_map_LDADD = $(TEST_LIBS)
TESTS += tests/test_base tests/test_base_map
