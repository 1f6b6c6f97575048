#!/bin/sh
# Unpacks Debian packages into a directory that can be the root of a node, without installing them:
#
#     packages.sh DIRECTORY PACKAGE...
#
# One of the packages must be `busybox-static`, whose commands become links in /bin.
set -eu

fail() {
    echo "$1" >&2
    exit 1
}

for program in apt-get dpkg chroot; do
    command -v "$program" >/dev/null || fail "the program \`$program\` is missing: the node of the tests is made from \
Debian's packages, so these tests run on Debian and on systems derived from it"
done

directory=$1
shift
mkdir "$directory" "$directory/packages"
(cd "$directory/packages" && apt-get -q -o APT::Sandbox::User=root download "$@") >&2 ||
    fail "apt-get cannot download $*; run \`apt-get update\` and start the tests again"
for package in "$directory"/packages/*.deb; do
    dpkg -x "$package" "$directory"
done
rm -rf "$directory/packages" "$directory/usr/share"
chroot "$directory" /bin/busybox --install /bin
# The other directories of a node. Its first process mounts a file system at each of them.
cd "$directory"
mkdir -p dev etc node proc run sys tmp var
