# SPDX-License-Identifier: Apache-2.0
# The program from outside: its commands, files, exit codes, and the chat on a terminal.
check_PROGRAMS += tests/cli/jsonget tests/cli/ptychat tests/cli/stcat
tests_cli_jsonget_SOURCES = tests/cli/jsonget.c
tests_cli_jsonget_LDADD = $(JANSSON_LIBS)
tests_cli_ptychat_SOURCES = tests/cli/ptychat.c
tests_cli_stcat_SOURCES = tests/cli/stcat.c src/cli/st_read.c src/cli/st_read.h
tests_cli_stcat_LDADD = libcore.la $(DEPS_LIBS)

CLI_TESTS = tests/cli/chat.sh tests/cli/demo.sh tests/cli/encode.sh tests/cli/errors.sh tests/cli/imatrix.sh \
	tests/cli/info.sh \
	tests/cli/logits.sh tests/cli/lora.sh tests/cli/ollama.sh tests/cli/quantize.sh tests/cli/run.sh \
	tests/cli/tiers.sh tests/cli/tokenize.sh tests/cli/usage.sh tests/cli/verify.sh
dist_check_SCRIPTS += $(CLI_TESTS)
TESTS += $(CLI_TESTS)
EXTRA_DIST += tests/cli/lib.sh tests/data/demo
