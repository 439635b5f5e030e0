/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/cpu.h"

#include <stdint.h>

#if defined(__x86_64__)

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* CPUID.1:ECX */
#define ECX1_FMA (1u << 12)
#define ECX1_OSXSAVE (1u << 27)
#define ECX1_AVX (1u << 28)
#define ECX1_F16C (1u << 29)
/* CPUID.7.0 */
#define EBX7_AVX2 (1u << 5)
#define EBX7_BMI2 (1u << 8)
#define EBX7_AVX512F (1u << 16)
#define EBX7_AVX512DQ (1u << 17)
#define EBX7_AVX512BW (1u << 30)
#define EBX7_AVX512VL (1u << 31)
#define ECX7_AVX512VBMI (1u << 1)
#define ECX7_AVX512VNNI (1u << 11)
#define EDX7_AMX_BF16 (1u << 22)
#define EDX7_AMX_TILE (1u << 24)
#define EDX7_AMX_INT8 (1u << 25)
/* CPUID.7.1:EAX */
#define EAX71_AVXVNNI (1u << 4)
#define EAX71_AVX512BF16 (1u << 5)
/* XCR0: register state that the operating system saves and restores */
#define XCR0_AVX 0x6u         /* XMM, YMM */
#define XCR0_AVX512 0xe6u     /* and opmask, upper halves of ZMM0-15, ZMM16-31 */
#define XCR0_AMX 0x60000u     /* tile configuration, tile data */
/* arch_prctl: tile data is granted per process, on request (Linux 5.16) */
#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA 18

static uint64_t xcr0(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static int has(uint32_t reg, uint32_t bits)
{
    return (reg & bits) == bits;
}

/* Whether VDPBF16PS takes two cycles: measured on family 6 model 207, which has AMX for such products, as have all
 * other Intel CPUs with it but model 85 (Cooper Lake), made before AMX and sold for this instruction. */
static int slow_dpbf16(void)
{
    uint32_t eax, ebx, ecx, edx;
    if (!__get_cpuid(0, &eax, &ebx, &ecx, &edx) || ebx != signature_INTEL_ebx || ecx != signature_INTEL_ecx ||
        edx != signature_INTEL_edx || !__get_cpuid(1, &eax, &ebx, &ecx, &edx))
        return 0;
    const uint32_t family = eax >> 8 & 15, model = (eax >> 4 & 15) | (eax >> 12 & 0xf0);
    return !(family == 6 && model == 85);
}

unsigned pn_cpu_detect(void)
{
    uint32_t eax, ebx, ecx, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx))
        return 0;
    if (!has(ecx, ECX1_OSXSAVE | ECX1_AVX | ECX1_FMA | ECX1_F16C))
        return 0;
    const uint64_t state = xcr0();
    if ((state & XCR0_AVX) != XCR0_AVX)
        return 0;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
        return 0;
    const uint32_t max_subleaf = eax;
    uint32_t eax1 = 0, unused_b, unused_c, unused_d;
    if (max_subleaf >= 1)
        __get_cpuid_count(7, 1, &eax1, &unused_b, &unused_c, &unused_d);

    if (!has(ebx, EBX7_AVX2 | EBX7_BMI2))
        return 0;
    unsigned flags = PN_CPU_AVX2;
    if (has(eax1, EAX71_AVXVNNI))
        flags |= PN_CPU_AVXVNNI;

    const uint32_t avx512 = EBX7_AVX512F | EBX7_AVX512DQ | EBX7_AVX512BW | EBX7_AVX512VL;
    if (!has(ebx, avx512) || (state & XCR0_AVX512) != XCR0_AVX512)
        return flags;
    flags |= PN_CPU_AVX512;
    if (has(ecx, ECX7_AVX512VNNI | ECX7_AVX512VBMI))
        flags |= PN_CPU_AVX512VNNI;
    if (has(eax1, EAX71_AVX512BF16))
        flags |= PN_CPU_AVX512BF16 | (slow_dpbf16() ? PN_CPU_SLOW_DPBF16 : 0);
    /* Linux (Documentation/arch/x86/xstate.rst): XCR0 shows the state whether or not it may be used; the
     * process has to ask for it. */
    if (has(edx, EDX7_AMX_TILE | EDX7_AMX_INT8 | EDX7_AMX_BF16) &&
        (state & XCR0_AMX) == XCR0_AMX &&
        syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0)
        flags |= PN_CPU_AMX;
    return flags;
}

#elif defined(__aarch64__)

#include <sys/auxv.h>

/* <asm/hwcap.h> of an old kernel may lack the newer names. */
#define CAP_FPHP (1ul << 9)
#define CAP_ASIMDHP (1ul << 10)
#define CAP_ASIMD (1ul << 1)
#define CAP_ASIMDDP (1ul << 20)
#define CAP2_I8MM (1ul << 13)
#define CAP2_BF16 (1ul << 14)

unsigned pn_cpu_detect(void)
{
    const unsigned long cap = getauxval(AT_HWCAP), cap2 = getauxval(AT_HWCAP2);
    const unsigned long dotprod = CAP_ASIMDDP | CAP_FPHP | CAP_ASIMDHP;
    const unsigned long i8mm = CAP2_I8MM | CAP2_BF16;
    unsigned flags = 0;
    if (cap & CAP_ASIMD)
        flags |= PN_CPU_NEON;
    if ((cap & dotprod) == dotprod)
        flags |= PN_CPU_DOTPROD;
    if ((cap2 & i8mm) == i8mm)
        flags |= PN_CPU_I8MM;
    return flags;
}

#else

unsigned pn_cpu_detect(void)
{
    return 0;
}

#endif
