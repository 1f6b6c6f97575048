#!/usr/bin/env bash
# Builds the image without a daemon: deploy/scripts/image.sh BUILT ARCHIVE
#
# BUILT is an output directory of build.sh that contains x86_64-unknown-linux-musl, aarch64-unknown-linux-musl or both.
# ARCHIVE becomes an OCI archive, which `docker load`, `podman load`, `skopeo copy oci-archive:…`, `ctr images
# import` and `kind load image-archive` read. It contains the programs in /usr/local/bin, the CA certificates
# that this system trusts, the user 1001, and nothing else: no shell, no package. Needs GNU tar, gzip and jq.
# Prints the digest and the sizes.
set -euo pipefail
[ $# = 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
built=$(cd "$1" && pwd)
archive=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
cd "$(dirname "$0")/../.."

version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
revision=${REVISION:-$(git rev-parse HEAD)}
authorities=${CA_BUNDLE:-/etc/ssl/certs/ca-certificates.crt}
created=$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
layout=$scratch/layout
mkdir -p "$layout/blobs/sha256"

pack() { # pack DIRECTORY: prints the same bytes for the same content
    tar --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner --format=ustar -C "$1" -cf - .
}

blob() { # blob TYPE: stores stdin, prints its descriptor
    cat >"$scratch/blob"
    local sum
    sum=$(sha256sum "$scratch/blob" | cut -d' ' -f1)
    mv "$scratch/blob" "$layout/blobs/sha256/$sum"
    jq -cn --arg type "$1" --arg sum "sha256:$sum" --argjson size "$(stat -c %s "$layout/blobs/sha256/$sum")" \
        '{mediaType: $type, digest: $sum, size: $size}'
}

image() { # image TARGET ARCHITECTURE: prints the descriptor of its manifest
    local root=$scratch/$2 diff layer config
    mkdir -p "$root"/{etc/ssl/certs,usr/local/bin,usr/share/sbom,proc,tmp,var/run}
    chmod 1777 "$root/tmp"
    install -m 0755 "$built/$1"/{controller,kubeseal,seal,seal-deliver} "$root/usr/local/bin/"
    install -m 0644 "$authorities" "$root/etc/ssl/certs/ca-certificates.crt"
    deploy/scripts/sbom.sh "$1" >"$root/usr/share/sbom/sealed-secrets.cdx.json"
    echo "controller:x:1001:0::/tmp:/nonexistent" >"$root/etc/passwd"
    chmod 0644 "$root/etc/passwd" "$root/usr/share/sbom/sealed-secrets.cdx.json"
    pack "$root" >"$scratch/layer.tar"
    diff=sha256:$(sha256sum "$scratch/layer.tar" | cut -d' ' -f1)
    layer=$(gzip -9n <"$scratch/layer.tar" | blob application/vnd.oci.image.layer.v1.tar+gzip)
    config=$(jq -cn --arg architecture "$2" --arg created "$created" --arg diff "$diff" \
        --arg version "$version" --arg revision "$revision" '{
            architecture: $architecture, os: "linux", created: $created,
            config: {
                User: "1001", WorkingDir: "/", Entrypoint: ["controller"],
                Env: ["PATH=/usr/local/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"],
                ExposedPorts: {"8080/tcp": {}, "8081/tcp": {}},
                Labels: {
                    "org.opencontainers.image.title": "sealed-secrets-controller",
                    "org.opencontainers.image.description": "Creates Secrets from SealedSecrets; includes kubeseal, seal and seal-deliver",
                    "org.opencontainers.image.licenses": "Apache-2.0",
                    "org.opencontainers.image.version": $version,
                    "org.opencontainers.image.revision": $revision,
                    "org.opencontainers.image.created": $created
                }
            },
            rootfs: {type: "layers", diff_ids: [$diff]},
            history: [{created: $created, created_by: "deploy/scripts/image.sh"}]
        }' | blob application/vnd.oci.image.config.v1+json)
    jq -cn --argjson config "$config" --argjson layer "$layer" '{
            schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json",
            config: $config, layers: [$layer]
        }' | blob application/vnd.oci.image.manifest.v1+json |
        jq -c --arg architecture "$2" '. + {platform: {os: "linux", architecture: $architecture}}'
    echo "$2: seal-deliver $(stat -c %s "$root"/usr/local/bin/seal-deliver | awk '{printf "%.1f MB", $1 / 1e6}'), all programs $(stat -c %s "$root"/usr/local/bin/* | awk '{s += $1} END {printf "%.1f MB", s / 1e6}'), \
layer $(jq -r '.size / 1e5 | round / 10' <<<"$layer") MB compressed" >&2
}

images=()
for pair in x86_64-unknown-linux-musl:amd64 aarch64-unknown-linux-musl:arm64; do
    if [ -d "$built/${pair%:*}" ]; then images+=("$(image "${pair%:*}" "${pair#*:}")"); fi
done
[ ${#images[@]} -gt 0 ] || { echo "$built has no programs for Linux; run deploy/scripts/build.sh first" >&2; exit 1; }
top=${images[0]}
if [ ${#images[@]} -gt 1 ]; then
    top=$(printf '%s\n' "${images[@]}" |
        jq -cs '{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: .}' |
        blob application/vnd.oci.image.index.v1+json)
fi
jq -cn --argjson top "$top" --arg version "$version" '{
        schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json",
        manifests: [$top + {annotations: {
            "org.opencontainers.image.ref.name": $version,
            "io.containerd.image.name": "docker.io/library/sealed-secrets-controller:\($version)"
        }}]
    }' >"$layout/index.json"
printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
pack "$layout" >"$archive"
jq -r '.manifests[0].digest' "$layout/index.json"
