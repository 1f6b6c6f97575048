#!/usr/bin/env bash
# Backs up the private keys of a controller, and restores them.
#
#   keys.sh backup FILE [kubectl flags, for example -n kube-system]
#   keys.sh restore FILE [kubectl flags]
#   keys.sh check FILE [kubectl flags]      fails if a key of the cluster is not in the file
#
# The file contains private keys, as JSON. It is written completely or not at all, with mode 0600. Restored keys only
# unseal, and a restore changes no existing key; to restore YAML use `seal keys restore`. Needs kubectl and jq.
set -euo pipefail
umask 077
mark=sealedsecrets.bitnami.com/sealed-secrets-key
v2_mark=sealedsecrets.bitnami.com/v2-key

usage() { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -ge 2 ] || usage
verb=$1 file=$2
shift 2

# Includes retired keys: values that were sealed for them can only be unsealed with them. The key of upstream's first
# releases has no label.
keys() {
    kubectl "$@" get secrets -o json |
        jq --arg mark "$mark" --arg v2 "$v2_mark" '
            def kept_metadata: {name, generateName, labels, annotations: ((.annotations // {})
                | del(.["kubectl.kubernetes.io/last-applied-configuration"]))}
                | with_entries(select(.value != null));
            {apiVersion: "v1", kind: "List", items: [.items[]
                | select((.type == "kubernetes.io/tls" and
                        (.metadata.labels[$mark] != null or .metadata.name == "sealed-secrets-key"))
                    or (.metadata.labels[$v2] != null and .data["v2.key"] != null))
                | {apiVersion: "v1", kind: "Secret", metadata: (.metadata | kept_metadata), type, data}]}'
}

# Prints the keys in the file, one per line.
backed_up_keys() {
    [ -r "$file" ] || { echo "cannot read $file" >&2; exit 1; }
    jq -ce '.items[] | select(.kind == "Secret")' "$file" 2>/dev/null || {
        echo "$file is not a List of Secrets in JSON, which \`keys.sh backup\` writes;" \
            "for YAML and age archives use \`seal keys restore $file\`" >&2
        exit 1
    }
}

# Prints the key Secret to create for a key in the file. The key unseals but does not seal, because a file does not
# prove who generated the key. Omits metadata on which other programs act, such as replicators of Secrets.
to_restored_key() {
    jq -c --arg rsa "$mark" --arg v2 "$v2_mark" --arg now "$(date -u +%Y-%m-%dT%H:%M:%SZ)" '
        (.data["v2.key"] != null) as $is_v2 | (if $is_v2 then $v2 else $rsa end) as $mark
        | .metadata as $backup | $backup.labels[$mark] as $state
        | def is_own_annotation: IN("sealedsecrets.bitnami.com/backed-up", "sealedsecrets.bitnami.com/compromised");
        {apiVersion: "v1", kind: "Secret", type: (if $is_v2 then "Opaque" else "kubernetes.io/tls" end),
            metadata: {name: $backup.name,
                labels: {($mark): (if $state == "active" or $state == "compromised" then $state
                    elif $state == null and ($is_v2 | not) and $backup.name == "sealed-secrets-key" then "active" else "retired" end)},
                annotations: (($backup.annotations // {} | with_entries(select(.key | is_own_annotation)))
                    + {"sealedsecrets.bitnami.com/opening-only": $now})},
            data: (.data | if $is_v2
                then {"v2.key", "v2.pub", "not-before", "not-after"} else {"tls.key", "tls.crt"} end)}'
}

public_key() { jq -r '.data["tls.crt"] // .data["v2.pub"] // "none"'; }

names() { jq -r '.items[].metadata.name' | sort; }

case $verb in
backup)
    keys "$@" >"$file.new" || { rm -f "$file.new"; exit 1; }
    count=$(names <"$file.new" | wc -l)
    if [ "$count" = 0 ]; then
        rm -f "$file.new"
        echo "no key found; pass the controller's namespace, for example -n kube-system" >&2
        exit 1
    fi
    mv "$file.new" "$file"
    echo "$count keys in $file: store it where only you can read it, never in Git" >&2
    ;;
restore)
    backup=$(backed_up_keys)
    existing=$(keys "$@")
    printf '%s\n' "$backup" | while read -r key; do
        name=$(jq -r .metadata.name <<<"$key")
        if public_key <<<"$key" | grep -qxFf - <(jq -c '.items[]' <<<"$existing" | public_key); then
            echo "$name already exists" >&2
            continue
        fi
        key=$(to_restored_key <<<"$key")
        # A new controller gives its first key the same name as the old controller's first key.
        if names <<<"$existing" | grep -qxF "$name"; then
            key=$(jq -c '.metadata |= (del(.name) | .generateName = "sealed-secrets-key-restored-")' <<<"$key")
        fi
        kubectl "$@" create -f - >/dev/null <<<"$key"
        echo "$name restored, as opening-only" >&2
    done
    ;;
check)
    backup=$(backed_up_keys)
    missing=$(keys "$@" | jq -r --slurpfile backup <(printf '%s\n' "$backup") '
        def public_key: .data["tls.crt"] // .data["v2.pub"];
        [$backup[] | public_key] as $backed_up
        | .items[] | select(public_key | IN($backed_up[]) | not) | .metadata.name')
    if [ -n "$missing" ]; then
        printf 'not in %s: %s\n' "$file" $missing >&2
        exit 1
    fi
    ;;
*) usage ;;
esac
