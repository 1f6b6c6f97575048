#!/bin/sh
# Creates the files of an image with PostgreSQL from Debian's packages, without installing them:
#
#     postgresql.sh DIRECTORY BUSYBOX
#
# Keeps only the files that `initdb`, `postgres` and `psql` need, because a node stores images in memory. BUSYBOX is a
# static busybox, which becomes the shell that `initdb` starts.
set -eu

fail() {
    echo "$1" >&2
    exit 1
}

directory=$1 busybox=$2
packages=$directory.packages
all=$directory.all
rm -rf "$packages" "$all"
mkdir "$directory" "$packages" "$all"

# Prints the packages with the server, its client, and the libraries of both. The query compiler is omitted, because it
# is the largest package and not needed. `libelogind0` replaces a library on systems without systemd.
packages_of_server() {
    apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \
        postgresql | grep -E '^(postgresql(-client)?-[0-9]+|z?lib[^:]*)$' |
        grep -Ev '^(libllvm|libz3|libperl|libelogind|libdebian|lib.*-perl$)' | sort -u
}

(cd "$packages" && packages_of_server | xargs apt-get -q -o APT::Sandbox::User=root download) >&2 ||
    fail "apt-get cannot download Debian's package postgresql; run \`apt-get update\` and start the tests again"
for package in "$packages"/*.deb; do
    dpkg -x "$package" "$all"
done

# Packages of systems before Debian 13 have files in /lib, which must be a link to /usr/lib.
for name in bin lib lib64 sbin; do
    if [ -d "$all/$name" ]; then
        mkdir -p "$all/usr/$name"
        cp -a "$all/$name/." "$all/usr/$name/"
        rm -rf "${all:?}/$name"
    fi
    ln -s "usr/$name" "$all/$name"
done

# Copies files of the packages; copies the target instead of a link.
keep() {
    for path; do
        mkdir -p "$directory${path%/*}"
        chroot "$all" /busybox readlink -f "$path" >"$packages/target"
        cp -R "$all$(cat "$packages/target")" "$directory$path"
    done
}

cp "$busybox" "$all/busybox"
version=$(ls "$all/usr/lib/postgresql")
programs=/usr/lib/postgresql/$version/bin
loader=$(cd "$all" && find usr/lib64 usr/lib -maxdepth 1 -name 'ld-linux*' | head -n 1)
loader=/${loader#usr/}
for program in initdb postgres psql; do
    keep "$programs/$program"
    chroot "$all" "$loader" --list "$programs/$program" >"$packages/list" ||
        fail "the packages lack a library of $program"
    # A line is `NAME => PATH (ADDRESS)`, or `PATH (ADDRESS)` for the loader.
    awk '$3 ~ "^/" { print $3 }' "$packages/list" >>"$packages/libraries"
done
sort -u "$packages/libraries" | while read -r library; do
    keep "$library"
done
keep "$loader"
keep "/usr/share/postgresql/$version" "/usr/lib/postgresql/$version/lib"
(cd "$directory/usr/lib/postgresql/$version/lib" && rm -rf bitcode pgxs llvmjit*)

mkdir -p "$directory/bin" "$directory/etc" "$directory/tmp"
cp "$busybox" "$directory/bin/sh"
echo 'postgres:x:999:999::/:/bin/sh' >"$directory/etc/passwd"
for program in initdb postgres psql; do
    ln -s "$programs/$program" "$directory/bin/$program"
done
rm -rf "$packages" "$all"
