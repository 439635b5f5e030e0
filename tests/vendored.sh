#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# third_party/stb/stb_image.h is the one recorded in its README, and equals the installed package's
# file where that is the same version.
set -u
src=${PUNA_SRCDIR:-.}/third_party/stb
want=91f435e0fc6a620018b878b9859c74dff60d28046f87e649191ad6f35a98c722
have=$(sha256sum <"$src/stb_image.h") || exit 1
if [ "${have%% *}" != "$want" ]; then
    echo "third_party/stb/stb_image.h has been changed"
    exit 1
fi
version=$(sed -n 's/.*libstb-dev \([^ ]*\) .*/\1/p' "$src/README.md")
[ -n "$version" ] || { echo "third_party/stb/README.md names no version"; exit 1; }
installed=$(dpkg-query -W -f '${Version}' libstb-dev 2>/dev/null)
if [ "$installed" = "$version" ]; then
    cmp "$src/stb_image.h" /usr/include/stb/stb_image.h || exit 1
    echo "equal to libstb-dev $version"
else
    echo "libstb-dev $version is not installed (found: ${installed:-none}): checksum only"
fi
