#!/usr/bin/env bash
# Prints the software bill of materials of the programs, as CycloneDX: deploy/scripts/sbom.sh TARGET
#
# Lists the linked crates, as cargo resolves them, with the checksums in Cargo.lock. Every run for the same commit
# prints the same list.
set -euo pipefail
target=${1:?the target to build for, as x86_64-unknown-linux-musl}
cd "$(dirname "$0")/../.."

version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
sums=$(awk -F'"' '/^name/{n=$2} /^version/{v=$2} /^checksum/{print n " " v " " $2}' Cargo.lock)

cargo tree --locked -p controller -p kubeseal-rs -p roles -e normal --target "$target" --prefix none --format '{p}|{l}' |
    sed 's/ (\*)//' | sort -u |
    jq -cRn --arg sums "$sums" --arg version "$version" --arg target "$target" '
        ($sums | split("\n") | map(split(" ") | {key: (.[0] + " " + .[1]), value: .[2]}) | from_entries) as $sums
        | [inputs | select(. != "") | split("|") as [$crate, $license]
            | ($crate | split(" ")) as [$name, $v] | ($v | ltrimstr("v")) as $v
            | {type: "library", "bom-ref": "\($name)@\($v)", name: $name, version: $v,
               licenses: [{expression: ($license | gsub("/"; " OR "))}]}
              + (if $sums["\($name) \($v)"] then
                  {purl: "pkg:cargo/\($name)@\($v)", hashes: [{alg: "SHA-256", content: $sums["\($name) \($v)"]}]}
                else {} end)]
        | {bomFormat: "CycloneDX", specVersion: "1.5", version: 1,
           metadata: {component: {type: "application", name: "sealed-secrets", version: $version,
                                  properties: [{name: "target", value: $target}]}},
           components: (unique_by(."bom-ref"))}'
