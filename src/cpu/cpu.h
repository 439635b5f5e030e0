/* SPDX-License-Identifier: Apache-2.0 */
/* What this CPU can run, and how many CPUs this process may use. */
#ifndef PN_CPU_H
#define PN_CPU_H

/* One bit per feature bundle, as the kernel tiers are compiled (configure.ac has the flags). A bit
 * says that the CPU has all of the bundle and that the operating system saves its registers. */
enum pn_cpu_flag {
    PN_CPU_AVX2 = 1 << 0,       /* AVX2, FMA, F16C, BMI2; XCR0: XMM, YMM */
    PN_CPU_AVXVNNI = 1 << 1,    /* VEX-coded VNNI */
    PN_CPU_AVX512 = 1 << 2,     /* AVX-512 F, BW, DQ, VL; XCR0: opmask, ZMM */
    PN_CPU_AVX512VNNI = 1 << 3, /* AVX-512 VNNI, VBMI */
    PN_CPU_AVX512BF16 = 1 << 4,
    PN_CPU_AMX = 1 << 5,        /* AMX TILE, INT8, BF16; XCR0: tile state; permission granted */
    PN_CPU_NEON = 1 << 6,
    PN_CPU_DOTPROD = 1 << 7,    /* dotprod, fp16 arithmetic */
    PN_CPU_I8MM = 1 << 8,       /* i8mm, bf16 */
    /* no feature: VDPBF16PS does less in a cycle than two FMAs (bench/LOG.md) */
    PN_CPU_SLOW_DPBF16 = 1 << 9
};

/* Flags of this machine. Asks the CPU each time (a few microseconds; it keeps no state), and asks
 * Linux for permission to use AMX tiles, which holds for the process from then on. */
unsigned pn_cpu_detect(void);

/* CPUs this process can keep busy: the smaller of its affinity mask and its cgroup CPU quota (v1 or
 * v2, rounded up); at least 1. */
int pn_cpu_count(void);

/* Of the CPUs in the affinity mask, those on distinct physical cores: hyper-threads count once. At
 * least 1; the affinity count where the topology is unknown. */
int pn_cpu_cores(void);

/* The quota part of pn_cpu_count, for tests: reads `cgroup_file` (/proc/self/cgroup) and the
 * hierarchies below `mount` (/sys/fs/cgroup). CPUs rounded up, or 0: no limit. */
int pn_cgroup_cpus(const char *cgroup_file, const char *mount);

/* Bytes of the last-level cache; 0: unknown. */
unsigned long pn_cpu_last_cache(void);

#endif
