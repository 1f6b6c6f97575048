#!/usr/bin/env bash
# Tests the command line in odd environments: odd-environments.sh SEAL KUBESEAL
# Full disks, read-only and unreadable directories, closed descriptors, limits, work trees, submodules, odd names. Needs
# git and unshare (util-linux). Prints a line for each case, and exits with 1 if a case fails. Cases with another user
# need root.
set -uo pipefail
seal=$(realpath "$1") kubeseal=$(realpath "$2")
fixtures=$(realpath "$(dirname "$0")/../kubeseal-rs/tests/seal/fixtures")
work=$(mktemp -d)
trap 'chmod -R u+rwX "$work"; rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work" || exit 1
export HOME=$work KUBECONFIG=/nowhere GIT_CONFIG_GLOBAL=$work/gitconfig
printf '[user]\nname = a\nemail = a@b\n[protocol "file"]\nallow = always\n[init]\ndefaultBranch = main\n' >gitconfig
cp "$fixtures"/{cert,key,other}.pem .
failed=0

# try NAME EXIT-CODE TEXT COMMAND: checks that the command exits with this code, prints this text, and leaves no
# temporary file.
try() {
    local name=$1 code=$2 text=$3 output status temporary
    shift 3
    output=$(timeout 60 bash -c "$*" 2>&1 </dev/null)
    status=$?
    temporary=$(find "$work" -name '.seal-*.tmp' 2>/dev/null | head -n 1)
    if [ "$status" = "$code" ] && [[ $output == *"$text"* ]] && [ -z "$temporary" ]; then
        echo "ok    $name"
    else
        echo "FAIL  $name: exit code $status, expected $code with \"$text\"${temporary:+; the command left $temporary}: ${output:0:300}"
        failed=1
    fi
}
# same NAME FILE FILE: checks that the files are equal.
same() {
    if cmp -s "$2" "$3"; then echo "ok    $1"; else echo "FAIL  $1: $2 and $3 differ" && failed=1; fi
}

"$seal" create db -n shop --from-file a=key.pem --cert cert.pem -w db.yaml 2>/dev/null || exit 1
cp db.yaml before.yaml
create="$seal create x -n shop --from-file a=key.pem --cert cert.pem"

# Full disks
try 'stdout is full' 2 'space' "$create >/dev/full"
try 'stdout of kubeseal is full' 1 'space' "$kubeseal --raw --name a -n b --from-file key.pem --cert cert.pem >/dev/full"
full='mount -t tmpfs -o size=16k none full && cp db.yaml full/ && { head -c 20k /dev/zero >full/rest || true; }'
mkdir -p full
try 'a new file on a full disk' 2 'cannot create' unshare -Urm bash -c "'$full; $create -w full/x.yaml'" '2>&1'
try 'a change on a full disk' 2 'cannot write' \
    unshare -Urm bash -c "'$full; $seal set full/db.yaml b --generate --cert cert.pem; code=\$?; cmp full/db.yaml before.yaml || exit 9; exit \$code'" '2>&1'

# Read-only
try 'a read-only disk' 2 'cannot write' \
    unshare -Urm bash -c "'mount --bind full full && cp db.yaml full/ && mount -o remount,bind,ro full && $seal set full/db.yaml b --generate --cert cert.pem'" '2>&1'
rm -f full/db.yaml

# Closed descriptors
try 'stdin is closed' 2 '--allow-empty' "$seal set db.yaml a --cert cert.pem <&-"
try 'stdin is /dev/null' 2 '--allow-empty' "$seal set db.yaml a --cert cert.pem </dev/null"
try 'stdin is empty' 2 '--allow-empty' "printf '' | $seal set db.yaml a --cert cert.pem"
try 'stderr is closed' 0 '' "$create 2>&-"
try 'stdout is a closed pipe' 0 '' "$create | true"
same 'no case with closed descriptors changed the file' db.yaml before.yaml

# Limits
try 'a file size limit of 0' 2 'cannot write' "ulimit -f 0; $seal set db.yaml b --generate --cert cert.pem"
try 'few open files' 0 'shop/db' "ulimit -n 16; $seal view db.yaml"
try 'no locked memory' 0 'shop/db' "ulimit -l 0; $seal view --reveal --key key.pem db.yaml"
same 'no case with limits changed the file' db.yaml before.yaml

# Directories that cannot be read, for a user who is not root
mkdir -p tree/a tree/closed tree/z
for directory in a closed z; do cp db.yaml "tree/$directory/"; done
chmod 000 tree/closed
as_nobody=''
if [ "$(id -u)" = 0 ]; then
    cp "$seal" ./seal
    chmod -R o+rX . 2>/dev/null
    chmod 000 tree/closed
    as_nobody='setpriv --reuid=65534 --regid=65534 --clear-groups'
fi
readable_seal=$([ -n "$as_nobody" ] && echo ./seal || echo "$seal")
try 'an unreadable directory next to others: view' 2 'tree/z/db.yaml' "$as_nobody $readable_seal view tree"
try 'an unreadable directory is named' 2 'tree/closed' "$as_nobody $readable_seal lint tree"
chmod 755 tree/closed

# Git
git init -q unborn && cp db.yaml unborn/
try 'a repository without a commit' 2 'no commit to compare with' "cd unborn && $seal diff"
git init -q inner && cp db.yaml inner/ && git -C inner add -A && git -C inner commit -qm x
git init -q outer && git -C outer submodule --quiet add ../inner sub && git -C outer commit -qm x
git -C inner worktree add -q ../linked
try 'a change in a submodule' 0 'b added' "$seal set outer/sub/db.yaml b --generate --cert cert.pem && cd outer/sub && $seal diff"
try 'a change in a submodule, from the outer repository' 0 'b added' "cd outer && $seal diff sub/db.yaml"
try 'a change in a linked work tree' 0 'b added' "$seal set linked/db.yaml b --generate --cert cert.pem && cd linked && $seal diff"
# `safe.directory` does not matter: seal never runs `git`, and executes nothing that a Git configuration names.
if [ -n "$as_nobody" ]; then
    cp -r inner foreign
    printf 'apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: b}\nstringData: {a: b}\n' >foreign/plain.yaml
    git -C foreign add plain.yaml
    chmod -R o+rX foreign
    try 'a repository of another user: diff' 0 'no sealed item changed' "cd foreign && $as_nobody ../seal diff db.yaml"
    try 'a repository of another user: view' 0 'shop/db' "cd foreign && $as_nobody ../seal view db.yaml"
    try 'a repository of another user: lint --staged' 1 'plain.yaml' "cd foreign && $as_nobody ../seal lint --staged"
else
    echo 'skipped: a repository of another user (needs root)'
fi

# Names
odd=$'line\nbreak \e[2K "quoted" \u202e.yaml'
cp db.yaml "$odd"
try 'a name with terminal control sequences' 0 'line\nbreak' "$seal view ./line*"
bytes=$'bytes\xff.yaml'
cp db.yaml "$bytes"
try 'a name that is not UTF-8' 0 'b added' "$seal set ./bytes* b --generate --cert cert.pem"
cp db.yaml -- --name.yaml
try 'a name that begins with dashes' 0 'shop/db' "$seal view -- --name.yaml"
long=$(printf 'n%.0s' {1..240}).yaml
cp db.yaml "$long"
try 'a name of 245 bytes' 0 'b added' "$seal set ./nnn* b --generate --cert cert.pem"
deep=$(printf 'd/%.0s' {1..300})
mkdir -p "$deep" && cp db.yaml "$deep/"
try 'a tree of 300 directories' 0 'd/db.yaml' "$seal view d"
exit "$failed"
