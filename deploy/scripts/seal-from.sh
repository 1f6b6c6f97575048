#!/usr/bin/env bash
# Seals Secrets that another tool created, one file each: DIRECTORY/NAMESPACE/NAME.yaml
#
#   seal-from.sh stdin DIRECTORY [-- kubeseal flags]                  manifests of Secrets, as `sops -d` prints them
#   seal-from.sh namespace NAMESPACE DIRECTORY [kubectl flags] [-- kubeseal flags]
#
# Values are piped between programs and never written to disk. Existing files are not changed. Needs kubectl,
# kubeseal and jq.
set -euo pipefail

usage() { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -ge 2 ] || usage
from=$1
shift
if [ "$from" = namespace ]; then namespace=$1; shift; fi
directory=${1:?}
shift
kubectl_args=(get secrets) # Never empty, because the bash of macOS treats an empty array as unset.
while [ $# -gt 0 ] && [ "$1" != -- ]; do kubectl_args+=("$1"); shift; done
[ $# = 0 ] || shift

# Selects all Secrets except those that belong to service accounts, Helm, the controller or a SealedSecret. Removes the
# labels and annotations by which another tool identifies its Secrets; otherwise the tool would treat the new Secret as
# its own.
selection='
    (if .kind == "List" then .items[] else . end) | select(.kind == "Secret")
    | select(.type != "kubernetes.io/service-account-token" and .type != "helm.sh/release.v1"
        and (.metadata.labels // {} | has("sealedsecrets.bitnami.com/sealed-secrets-key")
            or has("sealedsecrets.bitnami.com/v2-key") | not)
        and .metadata.name != "sealed-secrets-key" and .data["v2.key"] == null and .stringData["v2.key"] == null
        and (.type == "kubernetes.io/tls" and (.metadata.name // "" | startswith("sealed-secrets-key")) | not)
        and ([(.data[]? | @base64d?), .stringData[]? | strings | select(test("(^|\n)(seal2-key |AGE-SECRET-KEY-PQ-1)"))]
            | length) == 0
        and ([.metadata.ownerReferences[]? | select(.kind == "SealedSecret")] | length) == 0)
    | .metadata |= ({name, namespace, labels, annotations}
        | (.labels, .annotations) |= ((. // {}) | with_entries(select(.key | test("external-secrets.io/|sops|kubectl.kubernetes.io/last-applied") | not))))
    | .metadata |= with_entries(select(.value != null and .value != {}))
    | {apiVersion: "v1", kind: "Secret", metadata, type, immutable, data, stringData} | with_entries(select(.value != null))'

case $from in
stdin) input() { kubectl create --dry-run=client -o json -f -; } ;;
namespace) input() { kubectl -n "$namespace" "${kubectl_args[@]}" -o json; } ;;
*) usage ;;
esac

input | jq -c "$selection" | while read -r secret; do
    name=$(jq -r .metadata.name <<<"$secret")
    secret_namespace=$(jq -r '.metadata.namespace // "default"' <<<"$secret")
    file=$directory/$secret_namespace/$name.yaml
    if [ -e "$file" ]; then
        echo "$file already exists" >&2
        continue
    fi
    mkdir -p "$directory/$secret_namespace"
    kubeseal -o yaml "$@" <<<"$secret" >"$file.new" || { rm -f "$file.new"; exit 1; }
    mv "$file.new" "$file"
    echo "$file" >&2
done
