#!/usr/bin/env bash
# Builds everything in a release: deploy/scripts/release.sh OUT [TARGET...]
#
# Without targets: static Linux for x86-64 and arm64, Windows for x86-64; and macOS for arm64 if $SDKROOT names Apple's
# SDK, which its linker needs. Needs Helm and the tools that build.sh and image.sh need.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
cd "$(dirname "$0")/../.."
targets=("$@")
if [ ${#targets[@]} = 0 ]; then
    targets=(x86_64-unknown-linux-musl aarch64-unknown-linux-musl x86_64-pc-windows-gnu)
    if [ -n "${SDKROOT:-}" ]; then targets+=(aarch64-apple-darwin); fi
fi
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}

deploy/scripts/build.sh "$out/built" "${targets[@]}"

pack() { # pack DIRECTORY FILE.tar.gz NAME...
    tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=ustar \
        -C "$1" -cf - "${@:3}" | gzip -9n >"$2"
}

assets=()
for target in "${targets[@]}"; do
    case $target in
    x86_64-*-linux-*) system=linux-amd64 ;;
    aarch64-*-linux-*) system=linux-arm64 ;;
    *-windows-*) system=windows-amd64 ;;
    aarch64-apple-*) system=darwin-arm64 ;;
    x86_64-apple-*) system=darwin-amd64 ;;
    *) echo "unknown target $target: no name for its archive" >&2; exit 1 ;;
    esac
    suffix=
    if [[ $system == windows-* ]]; then suffix=.exe; fi
    for program in kubeseal seal seal-deliver controller; do
        if [ -e "$out/built/$target/$program$suffix" ]; then
            asset=$program-$version-$system.tar.gz
            pack "$out/built/$target" "$out/$asset" "$program$suffix"
            assets+=("$asset")
        fi
    done
    deploy/scripts/sbom.sh "$target" >"$out/sealed-secrets-$version-$system.cdx.json"
    assets+=("sealed-secrets-$version-$system.cdx.json")
done

if [[ "${targets[*]}" == *-linux-* ]]; then
    deploy/scripts/image.sh "$out/built" "$out/sealed-secrets-controller-$version.tar" >"$out/image.digest"
    assets+=("sealed-secrets-controller-$version.tar" image.digest)
fi
helm package deploy/helm/sealed-secrets --app-version "$version" -d "$out" >/dev/null
assets+=("$(cd "$out" && ls sealed-secrets-[0-9]*.tgz)")
for name in controller.yaml controller-norbac.yaml; do
    sed "s|image: .*sealed-secrets-controller:.*|image: ${IMAGE:-sealed-secrets-controller:$version}|" \
        "deploy/manifests/$name" >"$out/$name"
    assets+=("$name")
done
cp deploy/crd.yaml "$out/crd.yaml"
assets+=(crd.yaml)

# krew installs `kubectl sealed-secrets`, which is `seal`.
sum() { sha256sum "$out/$1" | cut -d' ' -f1; }
{
    cat <<YAML
apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: sealed-secrets
spec:
  version: v$version
  shortDescription: Encrypt Secrets so that they can be stored in Git
  description: |
    Seals, checks and edits SealedSecrets, which only the controller in the cluster can open.
  platforms:
YAML
    for asset in "${assets[@]}"; do
        [[ $asset == seal-"$version"-* ]] || continue
        system=${asset#"seal-$version-"} system=${system%.tar.gz}
        bin=seal
        if [[ $system == windows-* ]]; then bin=seal.exe; fi
        cat <<YAML
    - selector:
        matchLabels:
          os: ${system%-*}
          arch: ${system#*-}
      uri: ${DOWNLOADS:-https://downloads.example.com/v$version}/$asset
      sha256: $(sum "$asset")
      bin: $bin
YAML
    done
} >"$out/sealed-secrets.krew.yaml"
assets+=(sealed-secrets.krew.yaml)

(cd "$out" && sha256sum "${assets[@]}" >SHA256SUMS && cat SHA256SUMS)
