# SPDX-License-Identifier: Apache-2.0
# Perplexity, importance and scores: metrics, the base file, and the commands.
check_PROGRAMS += tests/test_metric tests/test_klbase tests/fuzz/fuzz_klbase
tests_test_metric_SOURCES = tests/test_metric.c src/cli/metric.c src/cli/metric.h
tests_test_metric_LDADD = $(TEST_LIBS)
tests_test_klbase_SOURCES = tests/test_klbase.c src/cli/klbase.c src/cli/klbase.h
tests_test_klbase_LDADD = $(TEST_LIBS)
tests_fuzz_fuzz_klbase_SOURCES = tests/fuzz/fuzz_klbase.c src/cli/klbase.c src/cli/klbase.h $(FUZZ_MAIN)
tests_fuzz_fuzz_klbase_LDADD = $(FUZZ_LIBS)
dist_check_SCRIPTS += tests/cli/quality.sh tests/cli/score.sh
TESTS += tests/test_metric tests/test_klbase tests/fuzz/fuzz_klbase tests/cli/quality.sh tests/cli/score.sh
EXTRA_DIST += tests/fuzz/corpus/klbase tests/oracle/compare_quality.py
