# SPDX-License-Identifier: Apache-2.0
libcore_la_SOURCES += src/cpu/cpu.c src/cpu/cpu.h src/cpu/topology.c
