#!/usr/bin/env bash
# Builds the programs for other targets: deploy/scripts/build.sh OUT TARGET...
#
#   x86_64-unknown-linux-musl    static      aarch64-unknown-linux-musl    static
#   x86_64-pc-windows-gnu        only kubeseal and seal
#   aarch64-apple-darwin, x86_64-apple-darwin    only kubeseal and seal; need Apple's SDK in $SDKROOT
#
# Zig compiles the C code of the cryptography library for every target, so that the system's compiler does not influence
# the result: two builds of one commit give the same bytes. Each program contains the list of its crates, which `cargo
# audit bin` reads. Zig and cargo-zigbuild are installed from PyPI into OUT/.tools, and cargo-auditable from crates.io
# into a directory below CARGO_HOME, because the path of cargo-auditable affects the output of cargo; the versions of
# all three are pinned below.
set -euo pipefail
ziglang=0.17.1 zigbuild=0.24.1 auditable=0.7.7

[ $# -ge 2 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
cd "$(dirname "$0")/../.."
source=$PWD

tools=$out/.tools
if [ ! -x "$tools/bin/cargo-zigbuild" ]; then
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$tools" \
        "ziglang==$ziglang" "cargo-zigbuild==$zigbuild" ||
        { echo "pip cannot install ziglang $ziglang and cargo-zigbuild $zigbuild; see the errors above" >&2; exit 1; }
fi
lists=${CARGO_HOME:-$HOME/.cargo}/auditable-$auditable
if [ ! -x "$lists/bin/cargo-auditable" ]; then
    CARGO_TARGET_DIR=$out/.auditable cargo install --quiet --locked --root "$lists" --version "$auditable" cargo-auditable
    rm -rf "$out/.auditable"
fi
export PATH=$tools/bin:$lists/bin:$PATH PYTHONPATH=$tools
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$out/.target}
flags="--remap-path-prefix=$source=/build --remap-path-prefix=$CARGO_TARGET_DIR=/target --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
export CFLAGS="-ffile-prefix-map=$CARGO_TARGET_DIR=/target -ffile-prefix-map=${CARGO_HOME:-$HOME/.cargo}=/cargo"

for target; do
    rustup target add "$target" >/dev/null ||
        { echo "rustup cannot install the standard library for $target; see the errors above" >&2; exit 1; }
    # Zig ignores `-static-pie`, which rustc passes; without `-pie`, a program has the same addresses in each run.
    case $target in
    *-linux-musl) export RUSTFLAGS="$flags -C link-arg=-pie" ;;
    *) export RUSTFLAGS=$flags ;;
    esac
    packages=(-p kubeseal-rs --bin seal) programs=(kubeseal seal) suffix= deliver=
    case $target in
    *-linux-*) packages+=(-p controller --bin controller) programs+=(controller seal-deliver) deliver=yes ;;
    *-windows-*) suffix=.exe ;;
    esac
    cargo auditable zigbuild --profile dist --locked --target "$target" "${packages[@]}"
    # `kubeseal` generates no keys and starts often, so it alone collects no CPU jitter entropy; see
    # shared/NOTES.md.
    AWS_LC_SYS_NO_JITTER_ENTROPY=1 cargo auditable zigbuild --profile dist --locked --target "$target" \
        --target-dir "$CARGO_TARGET_DIR/kubeseal" -p kubeseal-rs --bin kubeseal
    # Built separately; otherwise the program would contain features that only other programs need. Its profile
    # optimizes for the size in memory.
    if [ -n "$deliver" ]; then
        cargo auditable zigbuild --profile deliver --locked --target "$target" -p roles --bin seal-deliver
    fi
    mkdir -p "$out/$target"
    for program in "${programs[@]}"; do
        built=$CARGO_TARGET_DIR/$target/dist/$program$suffix
        case $program in
        kubeseal) built=$CARGO_TARGET_DIR/kubeseal/$target/dist/$program$suffix ;;
        seal-deliver) built=$CARGO_TARGET_DIR/$target/deliver/$program ;;
        esac
        grep -qF .dep-v0 "$built" ||
            { echo "$program for $target does not contain the list of its crates" >&2; exit 1; }
        # The type in the header of a position-independent ELF file is 3 (ET_DYN).
        case $target in
        *-linux-*)
            [ "$(od -An -tu2 -j16 -N2 "$built" | tr -d ' ')" = 3 ] ||
                { echo "$program for $target has a fixed address" >&2; exit 1; }
            ;;
        esac
        install -m 0755 "$built" "$out/$target/"
    done
done
