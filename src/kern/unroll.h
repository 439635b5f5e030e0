/* SPDX-License-Identifier: Apache-2.0 */
/* What every kernel file needs from the compiler. Arrays of vectors stay in registers only when the
 * loops over them are unrolled completely; each compiler ignores the other's pragma for it. */
#ifndef PN_UNROLL_H
#define PN_UNROLL_H

#define INLINE static inline __attribute__((always_inline))

#ifdef __clang__
#if __has_feature(address_sanitizer)
#define PRAGMA_UNROLL /* every access is a branch there: unrolled, a file takes minutes to compile */
#else
#define PRAGMA_UNROLL _Pragma("clang loop unroll(full)")
#endif
#else
#define PRAGMA_UNROLL _Pragma("GCC unroll 16")
#endif

#endif
