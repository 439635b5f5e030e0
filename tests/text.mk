# SPDX-License-Identifier: Apache-2.0
check_PROGRAMS += tests/test_chat tests/test_utf8 tests/test_vocab
tests_test_chat_SOURCES = tests/test_chat.c tests/text_util.h
tests_test_chat_LDADD = $(TEST_LIBS)
tests_test_utf8_SOURCES = tests/test_utf8.c
tests_test_utf8_LDADD = $(TEST_LIBS)
tests_test_vocab_SOURCES = tests/test_vocab.c tests/text_util.h
tests_test_vocab_LDADD = $(TEST_LIBS)
TESTS += tests/test_chat tests/test_utf8 tests/test_vocab

check_PROGRAMS += tests/fuzz/fuzz_tokenizer
tests_fuzz_fuzz_tokenizer_SOURCES = tests/fuzz/fuzz_tokenizer.c $(FUZZ_MAIN)
tests_fuzz_fuzz_tokenizer_LDADD = $(FUZZ_LIBS)
TESTS += tests/fuzz/fuzz_tokenizer
EXTRA_DIST += tests/fuzz/corpus/tokenizer

# Made by the scripts; the last one gets the real vocabulary for PUNA_LLAMA3_TOKENIZER.
EXTRA_DIST += \
	tests/data/chat-more-goldens.json \
	tests/data/tokenizer-tiny-goldens.json \
	tests/oracle/chat_oracle.py \
	tests/oracle/tokenizer_oracle.py \
	tests/oracle/fetch-llama3-tokenizer.sh
