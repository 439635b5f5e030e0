# SPDX-License-Identifier: Apache-2.0
# PN_TIER(name, tier it builds on or nothing, flags, prologue, body)
# -----------------------------------------------------------------
# A CPU tier: one folder of kernels compiled with its own instruction-set flags. Asks whether the
# compiler can build it, with a program that uses a telling intrinsic. The flags come before the
# user's CFLAGS, as automake places them in the build, so that a user's -mno-avx512f or -march
# drops the tier here instead of breaking the build later.
# Sets <name>_CFLAGS, the conditional HAVE_KERN_<NAME>, and PN_HAVE_<NAME> in config.h.
# A tier is left out, and the summary says so, with --disable-<name>, when the one it builds on is
# left out, when it has no files in simd/, or when the compiler cannot; with --enable-<name> that
# is an error. pn_tier_host (set before): the tiers that exist for the host CPU.
AC_DEFUN([PN_TIER], [
AC_ARG_ENABLE([$1], [AS_HELP_STRING([--disable-$1], [do not build the $1 kernels])],
  [], [AS_IF([test "x$enable_simd" = xno], [enable_$1=no], [enable_$1=auto])])
pn_tier_$1=no
AC_MSG_CHECKING([for the $1 kernels])
AS_CASE([" $pn_tier_host "],
  [*" $1 "*], [AS_IF(
    [test "x$enable_$1" = xno], [AC_MSG_RESULT([disabled])],
    m4_ifval([$2], [[test "x$pn_tier_$2" != xyes], [AC_MSG_RESULT([no, they build on $2])],])
    [grep "^libkern_$1_la_SOURCES = ." "$srcdir"/simd/*/local.mk > /dev/null],
      [pn_save_CFLAGS=$CFLAGS
       CFLAGS="$3 $CFLAGS"
       AC_LINK_IFELSE([AC_LANG_PROGRAM([$4], [$5])],
         [pn_tier_$1=yes
          AC_MSG_RESULT([yes])],
         [AC_MSG_RESULT([no, $CC cannot build them with CFLAGS="$pn_save_CFLAGS"])])
       CFLAGS=$pn_save_CFLAGS],
      [AC_MSG_RESULT([no, not written yet])])],
  [AC_MSG_RESULT([no, not for $host_cpu])])
AS_IF([test "x$enable_$1" = xyes && test "x$pn_tier_$1" = xno],
  [AC_MSG_ERROR([--enable-$1 was given, but these kernels cannot be built: see above])])
AS_IF([test "x$pn_tier_$1" = xyes],
  [AC_DEFINE([PN_HAVE_]m4_toupper([$1]), [1], [Define to 1 if the $1 kernels are built.])
   pn_tiers_built="$pn_tiers_built $1"])
$1_CFLAGS="$3"
AC_SUBST([$1_CFLAGS])
AM_CONDITIONAL([HAVE_KERN_]m4_toupper([$1]), [test "x$pn_tier_$1" = xyes])
])

# PN_LIBRARY(VARIABLE, pkg-config module, Debian package, what it is for)
# -----------------------------------------------------------------------
# A required library. All missing ones are collected; configure stops once, naming the packages.
AC_DEFUN([PN_LIBRARY], [
PKG_CHECK_MODULES([$1], [$2], [pn_libs="$pn_libs $2"],
  [AC_MSG_RESULT([missing])
   pn_missing="$pn_missing $3"
   pn_missing_text="$pn_missing_text
    $2 ($4): Debian package $3"])
])

# PN_FLAG(VARIABLE, flag): append flag to VARIABLE when the compiler takes it without a warning.
AC_DEFUN([PN_FLAG], [
AS_VAR_PUSHDEF([pn_var], [pn_cv_flag_$2])
AC_CACHE_CHECK([whether $CC accepts $2], [pn_var],
  [pn_save_CFLAGS=$CFLAGS
   CFLAGS="-Werror $2 $CFLAGS"
   AC_COMPILE_IFELSE([AC_LANG_PROGRAM()], [AS_VAR_SET([pn_var], [yes])], [AS_VAR_SET([pn_var], [no])])
   CFLAGS=$pn_save_CFLAGS])
AS_VAR_IF([pn_var], [yes], [$1="$$1 $2"])
AS_VAR_POPDEF([pn_var])
])
