#!/usr/bin/env bash
# Seals a Secret without a cluster, in a temporary directory that is removed at the end. Shows a controller on a
# directory, its certificate over HTTP, a sealed Secret, and the file that the controller writes.
set -euo pipefail
cd "$(dirname "$0")/.."

echo "building (slow only the first time) ..."
cargo build --quiet --locked -p controller -p kubeseal-rs
bin=$PWD/${CARGO_TARGET_DIR:-target}/debug
[ -d "$bin" ] || bin=$CARGO_TARGET_DIR/debug

scratch=$(mktemp -d)
controller=
finish() {
    [ -z "$controller" ] || kill "$controller" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$scratch"
}
trap finish EXIT
cd "$scratch"

show() {
    printf '\n\033[1m$ %s\033[0m\n' "$*"
}
[ -t 1 ] || show() { printf '\n$ %s\n' "$*"; }

# Waits until a command succeeds: at most 60 s, for a 4096-bit key on a slow machine.
await() {
    for _ in $(seq 600); do
        "$@" && return
        kill -0 "$controller" 2>/dev/null || break
        sleep 0.1
    done
    echo "timed out waiting for: $*" >&2
    cat controller.log >&2
    exit 1
}

show "controller --directory state --listen-addr 127.0.0.1:0 &"
mkdir -p state/sealed
"$bin/controller" --directory state --listen-addr 127.0.0.1:0 --listen-metrics-addr 127.0.0.1:0 >controller.log 2>&1 &
controller=$!
address() { sed -n 's/.*HTTP server serving.*addr="\{0,1\}\([0-9.:]*\).*/\1/p' controller.log | grep .; }
await address >/dev/null
url=http://$(address)/v1/cert.pem
await "$bin/kubeseal" --fetch-cert --cert "$url" >cert.pem 2>/dev/null
grep -E 'New key|registered' controller.log

show "kubeseal --fetch-cert --cert $url > cert.pem"
head -n 2 cert.pem

show "cat secret.yaml        # never commit this file"
cat >secret.yaml <<'YAML'
apiVersion: v1
kind: Secret
metadata:
  name: database
  namespace: shop
stringData:
  user: shop
  password: correct horse battery staple
YAML
cat secret.yaml

show "kubeseal --cert cert.pem -o yaml < secret.yaml > sealed.yaml; cat sealed.yaml        # commit this file"
"$bin/kubeseal" --cert cert.pem -o yaml <secret.yaml >sealed.yaml
cut -c 1-100 sealed.yaml

show "cp sealed.yaml state/sealed/; ls -l state/secrets/shop/database/"
cp sealed.yaml state/sealed/
await test -e state/secrets/shop/database/password
ls -l state/secrets/shop/database/

show "cat state/secrets/shop/database/password"
cat state/secrets/shop/database/password
echo
[ "$(cat state/secrets/shop/database/password)" = "correct horse battery staple" ]

show "cat state/status/shop/database.yaml"
await test -e state/status/shop/database.yaml
cat state/status/shop/database.yaml

echo
echo "Done. The temporary directory will be removed."
