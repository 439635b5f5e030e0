# SPDX-License-Identifier: Apache-2.0
check_PROGRAMS += tests/test_image_golden tests/test_image_decode tests/test_image_hostile
tests_test_image_golden_SOURCES = tests/test_image_golden.c tests/image_util.h
tests_test_image_golden_LDADD = $(TEST_LIBS)
tests_test_image_decode_SOURCES = tests/test_image_decode.c tests/image_util.h
tests_test_image_decode_LDADD = $(TEST_LIBS)
tests_test_image_hostile_SOURCES = tests/test_image_hostile.c tests/image_util.h
tests_test_image_hostile_LDADD = $(TEST_LIBS)
TESTS += tests/test_image_golden tests/test_image_decode tests/test_image_hostile

check_PROGRAMS += tests/fuzz/fuzz_image tests/fuzz/fuzz_exif
tests_fuzz_fuzz_image_SOURCES = tests/fuzz/fuzz_image.c $(FUZZ_MAIN)
tests_fuzz_fuzz_image_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_exif_SOURCES = tests/fuzz/fuzz_exif.c $(FUZZ_MAIN)
tests_fuzz_fuzz_exif_LDADD = $(FUZZ_LIBS)
TESTS += tests/fuzz/fuzz_image tests/fuzz/fuzz_exif
EXTRA_DIST += tests/fuzz/corpus/image tests/fuzz/corpus/exif

# Made, with expected.json, by the script.
EXTRA_DIST += tests/oracle/image_oracle.py tests/data/images
