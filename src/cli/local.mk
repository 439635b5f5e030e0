# SPDX-License-Identifier: Apache-2.0
# The puna program: puna.h and src/base only.
puna_SOURCES += \
	src/cli/cli.h src/cli/cmd_bench.c src/cli/cmd_doctor.c src/cli/cmd_encode.c \
	src/cli/cmd_info.c src/cli/cmd_logits.c src/cli/cmd_quantize.c src/cli/cmd_run.c src/cli/cmd_synth.c \
	src/cli/cmd_tokenize.c src/cli/cmd_verify.c src/cli/common.c src/cli/common.h src/cli/main.c \
	src/cli/opts.c src/cli/opts.h src/cli/prompt.c \
	src/cli/prompt.h src/cli/repl.c src/cli/run.h src/cli/show.c src/cli/show.h src/cli/st_read.c src/cli/st_read.h \
	src/cli/st_write.c src/cli/st_write.h src/cli/term.c src/cli/term.h
# quality
puna_SOURCES += \
	src/cli/cmd_imatrix.c src/cli/cmd_perplexity.c src/cli/cmd_score.c src/cli/dataset.c src/cli/dataset.h src/cli/klbase.c \
	src/cli/klbase.h src/cli/metric.c src/cli/metric.h src/cli/pieces.c src/cli/pieces.h
