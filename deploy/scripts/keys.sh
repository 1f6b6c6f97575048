#!/usr/bin/env bash
# Keeps the private keys of a controller, and gives them back.
#
#   keys.sh backup FILE [kubectl's flags, as -n kube-system]
#   keys.sh restore FILE [kubectl's flags]
#   keys.sh check FILE [kubectl's flags]      is every key of the cluster in the file?
#
# The file holds private keys, as JSON. It is written whole or not at all, for you alone (0600). A restore adds
# keys and changes none that are there; of YAML, `seal keys restore` does that. Needs kubectl and jq.
set -euo pipefail
umask 077
mark=sealedsecrets.bitnami.com/sealed-secrets-key

usage() { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -ge 2 ] || usage
verb=$1 file=$2
shift 2

# Those that are out of use too: what was sealed for them opens with them alone. The oldest has no label.
keys() {
    kubectl "$@" get secrets -o json |
        jq --arg mark "$mark" '
            def bare: {name, generateName, labels, annotations: ((.annotations // {})
                | del(.["kubectl.kubernetes.io/last-applied-configuration"]))}
                | with_entries(select(.value != null));
            {apiVersion: "v1", kind: "List", items: [.items[]
                | select(.type == "kubernetes.io/tls" and
                    (.metadata.labels[$mark] != null or .metadata.name == "sealed-secrets-key"))
                | {apiVersion: "v1", kind: "Secret", metadata: (.metadata | bare), type, data}]}'
}

# The keys in the file: one on each line.
kept() {
    [ -r "$file" ] || { echo "$file cannot be read" >&2; exit 1; }
    jq -ce '.items[] | select(.kind == "Secret")' "$file" 2>/dev/null || {
        echo "$file is no List of Secrets in JSON, as \`keys.sh backup\` writes it;" \
            "\`seal keys restore $file\` takes YAML and age archives" >&2
        exit 1
    }
}

certificate() { jq -r '.data["tls.crt"] // "none"'; }

names() { jq -r '.items[].metadata.name' | sort; }

case $verb in
backup)
    keys "$@" >"$file.new" || { rm -f "$file.new"; exit 1; }
    count=$(names <"$file.new" | wc -l)
    if [ "$count" = 0 ]; then
        rm -f "$file.new"
        echo "no key found; name the controller's namespace, as -n kube-system" >&2
        exit 1
    fi
    mv "$file.new" "$file"
    echo "$count keys in $file: keep it where only you can read it, and out of Git" >&2
    ;;
restore)
    kept=$(kept)
    here=$(keys "$@")
    printf '%s\n' "$kept" | while read -r key; do
        name=$(jq -r .metadata.name <<<"$key")
        if certificate <<<"$key" | grep -qxFf - <(jq -c '.items[]' <<<"$here" | certificate); then
            echo "$name is there" >&2
            continue
        fi
        # A new controller gives its first key the name that the old one's first had.
        if names <<<"$here" | grep -qxF "$name"; then
            key=$(jq -c '.metadata |= (del(.name) | .generateName = "sealed-secrets-key-restored-")' <<<"$key")
        fi
        kubectl "$@" create -f - >/dev/null <<<"$key"
        echo "$name is back" >&2
    done
    ;;
check)
    kept=$(kept)
    lacking=$(keys "$@" | jq -r --slurpfile kept <(printf '%s\n' "$kept") '
        [$kept[].data["tls.crt"]] as $kept
        | .items[] | select(.data["tls.crt"] | IN($kept[]) | not) | .metadata.name')
    if [ -n "$lacking" ]; then
        printf 'not in %s: %s\n' "$file" $lacking >&2
        exit 1
    fi
    ;;
*) usage ;;
esac
