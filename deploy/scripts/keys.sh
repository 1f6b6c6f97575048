#!/usr/bin/env bash
# Keeps the private keys of a controller, and gives them back.
#
#   keys.sh backup FILE [kubectl's flags, as -n kube-system]
#   keys.sh restore FILE [kubectl's flags]
#   keys.sh check FILE [kubectl's flags]      is every key of the cluster in the file?
#
# The file holds private keys, as JSON. It is written whole or not at all, for you alone (0600). A restore adds
# keys for opening only, and changes none that are there; of YAML, `seal keys restore` does that. Needs kubectl and jq.
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

# Restored keys open and do not seal: a file does not prove who made it. Metadata that other programs act on, such as
# replicators of Secrets, are left out.
restored() {
    jq -c --arg mark "$mark" --arg now "$(date -u +%Y-%m-%dT%H:%M:%SZ)" '
        .metadata as $was | $was.labels[$mark] as $state
        | def ours: IN("sealedsecrets.bitnami.com/backed-up", "sealedsecrets.bitnami.com/compromised");
        {apiVersion: "v1", kind: "Secret", type: "kubernetes.io/tls",
            metadata: {name: $was.name,
                labels: {($mark): (if $state == "active" or $state == "compromised" then $state
                    elif $state == null and $was.name == "sealed-secrets-key" then "active" else "retired" end)},
                annotations: (($was.annotations // {} | with_entries(select(.key | ours)))
                    + {"sealedsecrets.bitnami.com/opening-only": $now})},
            data: {"tls.key": .data["tls.key"], "tls.crt": .data["tls.crt"]}}'
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
        key=$(restored <<<"$key")
        # A new controller gives its first key the name that the old one's first had.
        if names <<<"$here" | grep -qxF "$name"; then
            key=$(jq -c '.metadata |= (del(.name) | .generateName = "sealed-secrets-key-restored-")' <<<"$key")
        fi
        kubectl "$@" create -f - >/dev/null <<<"$key"
        echo "$name is back, for opening only" >&2
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
