#!/usr/bin/env bash
# Custodians at work, from their genesis to the leaving of one of them, on one machine in a directory that goes away again:
# keys made by ssh-keygen, one of them in an ssh-agent, a token of SoftHSM, and a clock that is moved by hand. Every person
# is a user of the machine, because that is how the control socket knows them. Ends with an error at the first surprise.
#
#   cargo build && sudo examples/ceremony/run.sh [target/debug/keyward]
#
# Needs root (to become those users), and the Debian packages softhsm2, openssh-client, jq and util-linux.
set -Eeuo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
given=${1:-$here/../../target/debug/keyward}

# Those who sign borrow accounts that the machine has: ssh-keygen serves nobody without an entry in passwd.
SIGNERS=(alice bob carol dave rosa victor dan)
declare -A UIDS=([audrey]=64101 [oscar]=64102 [portal]=64103 [emergency]=64104 [root]=0)
SOFTHSM=/usr/lib/softhsm/libsofthsm2.so
PATH=$PATH:/usr/sbin:/sbin
dir="" server="" agent="" told="" old="" new="" removal="" pinned=""

main() {
  need
  dir=$(mktemp -d /tmp/keyward-ceremony.XXXXXX)
  trap leave EXIT
  trap 'surprise "$BASH_COMMAND (line $LINENO) ended with $?"' ERR
  prepare
  genesis
  refused_alone
  keyring
  enrolment
  kek_rotation
  destruction
  broken_glass
  leaving
  minutes
  title "Everything went as it should."
}

need() {
  (($(id -u) == 0)) || die "run this as root: every person of the example is a user of this machine"
  [[ -x $given ]] || die "there is no keyward at $given: build it, or name it"
  local tool
  for tool in ssh-keygen ssh-agent ssh-add softhsm2-util setpriv jq sha256sum; do
    command -v "$tool" >/dev/null || die "$tool is missing: apt-get install softhsm2 openssh-client jq util-linux"
  done
  [[ -e $SOFTHSM ]] || die "$SOFTHSM is missing: apt-get install softhsm2"
  local accounts at
  mapfile -t accounts < <(getent passwd | cut -d: -f3 | grep -vx 0 | sort -nu)
  ((${#accounts[@]} >= ${#SIGNERS[@]})) || die "this machine has fewer than ${#SIGNERS[@]} accounts beside root"
  for at in "${!SIGNERS[@]}"; do UIDS[${SIGNERS[at]}]=${accounts[at]}; done
}

# --- the scenes

prepare() {
  title "A token, people with keys of their own, and a sidecar for rehearsals"
  chmod 755 "$dir"
  # Where other users can run it, wherever it was built.
  install -m 755 "$given" "$dir/keyward"
  mkdir -m 755 "$dir/run" "$dir/people" "$dir/etc"
  mkdir -m 700 "$dir/tokens"
  # The table around which they sit: what lies on it is read by everybody.
  mkdir -m 1777 "$dir/table"
  cp -r "$here/policies" "$here/separation.toml" "$dir/etc/"
  configure
  export SOFTHSM2_CONF=$dir/etc/softhsm2.conf
  softhsm2-util --init-token --free --label ceremony --so-pin 87654321 --pin 12345678 >/dev/null
  people
  ours kek create
  ours init | tee "$dir/init.txt"
  # What the auditor keeps elsewhere.
  sed -n 's/^ *log key: //p' "$dir/init.txt" >"$dir/table/log.key"
  serve
}

configure() {
  local person kind
  printf 'directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n' "$dir/tokens" >"$dir/etc/softhsm2.conf"
  (umask 077 && echo 12345678 >"$dir/etc/pin")
  {
    cat <<CONFIG
schema = 1
environment = "development"
state_dir = "$dir/state"

[listen]
data = "$dir/run/data.sock"
data_mode = "0666"
control = "$dir/run/control.sock"
control_mode = "0666"

[kek.primary]
type = "pkcs11"
profile = "softhsm2"
module = "$SOFTHSM"
token_label = "ceremony"
key_label = "kek-{version}"
pin_file = "$dir/etc/pin"
env = { SOFTHSM2_CONF = "$dir/etc/softhsm2.conf" }

[policy]
dir = "$dir/etc/policies"

[custody]
separation = "$dir/etc/separation.toml"
clock = "rehearsal"

[memory]
on_lock_failure = "warn"
CONFIG
    # dan, the developer, is nobody here, and neither is root.
    for person in portal emergency alice bob carol dave rosa victor audrey oscar; do
      case $person in
        portal | emergency) kind=service ;;
        audrey) kind=auditor ;;
        oscar) kind=operator ;;
        *) kind=custodian ;;
      esac
      printf '\n[[principal]]\nname = "%s"\nkind = "%s"\nuids = [%d]\n' "$person" "$kind" "${UIDS[$person]}"
    done
  } >"$dir/etc/keyward.toml"
  chmod 600 "$dir/etc/keyward.toml"
}

people() {
  local person kind
  for person in "${SIGNERS[@]}"; do
    install -d -m 700 -o "${UIDS[$person]}" -g "${UIDS[$person]}" "$dir/people/$person"
  done
  for person in "${SIGNERS[@]}"; do
    kind=ed25519
    [[ $person == carol ]] && kind=ecdsa
    as "$person" ssh-keygen -q -t "$kind" -N "" -C "$person" -f "$(key "$person")"
    # What is public lies on the table.
    install -m 644 "$(key "$person").pub" "$dir/table/$person.pub"
  done
  # alice's key is in her agent and in no file any more.
  (trap - ERR && as alice ssh-agent -D -a "$dir/people/alice/agent" >/dev/null 2>&1) &
  agent=$!
  eventually test -S "$dir/people/alice/agent"
  as alice ssh-add -q "$(key alice)"
  rm "$(key alice)"
  note "alice's key is in an ssh-agent, carol's is of NIST P-256, the others' are Ed25519"
}

genesis() {
  local person
  title "Genesis: everybody on the first roster signs its digest"
  cd "$dir/table"
  show alice custody draft --member alice:alice.pub --member bob:bob.pub --member carol:carol.pub \
    --member rosa:rosa.pub --member victor:victor.pub --out roster.json
  show alice custody sign roster.json --as alice --key alice.pub --yes
  for person in bob rosa victor; do
    quietly "$person" custody sign roster.json --as "$person" --key "$(key "$person")" --yes
  done
  note "carol trusts no new tool with her key: she signs three lines by ssh-keygen alone"
  quietly carol custody sign roster.json --as carol --print 2>/dev/null >carol.txt
  as carol ssh-keygen -q -Y sign -n keyward-rehearsal -f "$(key carol)" carol.txt
  local signatures=(--signature alice=alice.sig --signature bob=bob.sig --signature rosa=rosa.sig
    --signature victor=victor.sig)
  refused not_approved alice custody found roster.json "${signatures[@]}"
  refused not_approved alice custody found roster.json "${signatures[@]}" --signature carol=bob.sig
  show alice custody found roster.json "${signatures[@]}" --signature carol=carol.txt.sig
  pinned=$(quietly audrey custody show --json | jq -er .roster.digest)
  refused conflict alice custody found roster.json "${signatures[@]}" --signature carol=carol.txt.sig
}

refused_alone() {
  title "Alone: a custodian, a developer, an auditor, an operator and root are each refused"
  refused ceremony_required alice keyring create patients
  refused unauthenticated dan keyring create patients
  refused unauthenticated root keyring create patients
  refused unauthenticated root custody show
  refused denied audrey keyring create patients
  refused denied audrey ceremony propose keyring.create --initiator alice --set keyring=patients --reason new --yes \
    --key "$(key bob)"
  refused denied oscar keyring create patients
  show audrey ceremony list
}

keyring() {
  local id
  title "A keyring, by two people"
  id=$(propose alice keyring.create --reason new-application --set keyring=patients --set required_context=field,patient \
    --set subject_key=patient)
  show alice ceremony show "$id"
  # Who proposes does not approve, and everybody signs in their own name with their own key.
  refused not_approved:initiator_approves alice ceremony approve "$id" --as alice --key alice.pub --yes
  refused not_approved:wrong_person bob ceremony approve "$id" --as carol --key "$(key bob)" --yes
  refused not_approved:unknown_key dan_through_bob ceremony approve "$id" --as bob --key "$dir/people/dan/key" --yes
  refused unauthenticated dan ceremony approve "$id" --as bob --key "$dir/people/dan/key" --yes
  refused ceremony_state:not_ready oscar ceremony execute "$id"
  refused denied audrey ceremony execute "$id"
  show bob ceremony approve "$id" --as bob --key "$(key bob)" --yes
  show oscar ceremony execute "$id"
  refused ceremony_state:spent oscar ceremony execute "$id"
  old=$(seal "Ada Lovelace")
  opens "Ada Lovelace" portal TREAT "$old"
}

enrolment() {
  local duties
  title "dave is enrolled"
  echo "I keep my key to myself and approve only what I understand." >duties.txt
  duties=$(sha256sum <duties.txt | cut -d' ' -f1)
  # dave, who cannot ask the sidecar yet, signs with his key that he accepts.
  show dave custody accept --as dave --key "$(key dave)" --acknowledgement duties.txt --store "$(store)" --rehearsal --yes
  decided custodian.enrol dave-joins --set person=dave --set key=@dave.pub --set proof=@dave.accept.sig \
    --set acknowledgement="$duties"
  show audrey custody show
}

kek_rotation() {
  local wraps
  title "The key-encryption key is rotated"
  decided kek.rotate schedule --set kek=primary --set to_version=2
  ours kek rotate --to 2
  stop
  serve
  show oscar kek rewrap --trigger schedule
  wraps=$(quietly oscar keyring inventory --json | jq -r '[.keyrings[].versions[].keks[]] | unique | join(",")')
  [[ $wraps == *2* && $wraps != *1* ]] || surprise "the keys are wrapped by $wraps"
  note "every key is wrapped by $wraps"
  opens "Ada Lovelace" portal TREAT "$old"
}

destruction() {
  local version statement id
  title "A key version is destroyed, and until then everybody can still say no"
  version=$(active)
  decided keyring.rotate schedule --set keyring=patients --set trigger=schedule
  [[ $(active) != "$version" ]] || surprise "the keyring was not rotated"
  new=$(seal "Grace Hopper")
  note "at tier 3 a key counts that was enrolled for a day, and no version is destroyed by which values were opened in a month"
  show alice rehearsal advance 25h
  # The use of keys is counted in the store now and then, and counts as of then.
  eventually last_opened "$version"
  show alice rehearsal advance 31d
  statement=$(echo -n "no value of this version is left in the database" | sha256sum | cut -d' ' -f1)
  id=$(propose alice key.destroy --reason retired --ticket OPS-1200 --set keyring=patients --set version="$version" \
    --set reason=retired --set after_days=7 --set statement="$statement")
  approve bob "$id"
  approve carol "$id"
  refused not_due oscar ceremony execute "$id"
  show alice rehearsal advance 25h
  show oscar ceremony execute "$id"
  opens "Grace Hopper" portal TREAT "$new"
  stays_shut portal TREAT "$old"
  refused not_due oscar keyring finish-destroy patients "$version"
  show alice rehearsal advance 8d
  show oscar keyring finish-destroy patients "$version"
  stays_shut portal TREAT "$old"
  title "A second destruction is denied while it cools off"
  id=$(propose alice key.destroy --reason retired --set keyring=patients --set version="$(active)" --set reason=mistake \
    --set after_days=7 --set statement="$statement")
  approve bob "$id"
  approve dave "$id"
  show carol ceremony deny "$id" --as carol --key "$(key carol)" --reason still-in-use --yes
  show alice rehearsal advance 25h
  refused ceremony_state oscar ceremony execute "$id"
}

broken_glass() {
  local id
  title "Break-glass, and its review"
  stays_shut emergency BTG "$new"
  id=$(propose rosa break-glass.open --reason unconscious --ticket ED-4711 --set principal=emergency --set keyring=patients \
    --set minutes=30 --set reason=unconscious --set ticket=ED-4711)
  refused not_approved:initiator_approves rosa ceremony approve "$id" --as rosa --key "$(key rosa)" --yes
  approve bob "$id"
  show oscar ceremony execute "$id"
  opens "Grace Hopper" emergency BTG "$new"
  stays_shut emergency TREAT "$new"
  refused not_approved:review_does_not_count rosa grant review "$id" --as rosa --key "$(key rosa)" --verdict justified --yes
  show victor grant review "$id" --as victor --key "$(key victor)" --verdict justified --yes
  refused ceremony_state:already_reviewed victor grant review "$id" --as victor --key "$(key victor)" --verdict not-justified --yes
  show alice rehearsal advance 31m
  stays_shut emergency BTG "$new"
}

leaving() {
  local id version
  title "carol leaves"
  id=$(propose alice keyring.rotate --reason schedule --set keyring=patients --set trigger=schedule)
  approve carol "$id"
  removal=$(propose alice custodian.remove --reason leaving --set person=carol --set reason=leaving)
  refused not_approved carol ceremony approve "$removal" --as carol --key "$(key carol)" --yes
  approve bob "$removal"
  approve dave "$removal"
  show oscar ceremony execute "$removal"
  note "what carol had approved is not carried out any more, and she approves nothing else"
  refused ceremony_state oscar ceremony execute "$id"
  [[ $(quietly audrey custody show --json | jq -r '.duties[].keyring') == default/patients ]] ||
    surprise "nothing asks for the rotation of what carol could reach"
  show audrey custody show
  version=$(active)
  id=$(propose alice keyring.rotate --reason leaving --set keyring=patients --set trigger=personnel)
  refused not_approved carol ceremony approve "$id" --as carol --key "$(key carol)" --yes
  approve dave "$id"
  show oscar ceremony execute "$id"
  [[ $(active) != "$version" ]] || surprise "the keyring was not rotated"
  [[ $(quietly audrey custody show --json | jq '.duties | length') == 0 ]] || surprise "the rotation is still asked for"
  opens "Grace Hopper" portal TREAT "$new"
}

minutes() {
  local id ids
  title "The auditor takes the minutes of every ceremony away and verifies them offline"
  quietly audrey custody roster --out rosters.json >/dev/null
  show audrey ceremony minutes "$removal" --text
  ids=$(quietly audrey ceremony list --all --json | jq -r '.ceremonies[].id')
  for id in $ids; do
    quietly audrey ceremony minutes "$id" --out "$id.json" >/dev/null
    quietly audrey ceremony minutes "$id" --html --out "$id.html" >/dev/null
  done
  stop
  note "the sidecar is stopped; what follows needs the files alone"
  for id in $ids; do
    verified "$id.json" >verified.txt || surprise "$(cat verified.txt)"
    note "$id verifies: $(jq -r .effect "$id.json")"
  done
  verified "$removal.json" | indent
  sed 's/"bob"/"bab"/' "$removal.json" >edited.json
  if cmp -s "$removal.json" edited.json; then surprise "nothing was edited"; fi
  if verified edited.json >verified.txt 2>&1; then surprise "edited minutes verify"; fi
  note "minutes in which a name was edited do not verify"
  ours audit verify "$dir/state/log"
}

# --- how it is done

# Runs a program as a person.
as() {
  local who=$1 as_agent=()
  shift
  if [[ $who == alice ]]; then as_agent=("SSH_AUTH_SOCK=$dir/people/alice/agent"); fi
  setpriv --reuid="${UIDS[$who]}" --regid="${UIDS[$who]}" --clear-groups \
    env -i PATH="$PATH" LC_ALL=C "${as_agent[@]}" "$@"
}

# keyward as a person, over the control socket. dan_through_bob is dan at bob's screen, with his own key.
quietly() {
  local who=$1
  shift
  if [[ $who == dan_through_bob ]]; then
    # bob may not read dan's key: dan brought it with him.
    install -m 600 -o "${UIDS[bob]}" -g "${UIDS[bob]}" "$(key dan)" "$dir/people/bob/of-dan"
    local arguments=("${@//$dir\/people\/dan\/key/$dir/people/bob/of-dan}")
    as bob "$dir/keyward" "${arguments[@]}" --socket "$dir/run/control.sock"
    return
  fi
  local socket=(--socket "$dir/run/control.sock")
  # Signing a roster asks no sidecar.
  if [[ $1 == custody && $2 == sign ]]; then socket=(); fi
  as "$who" "$dir/keyward" "$@" "${socket[@]}"
}

# What a person does, and what comes of it.
show() {
  command_line "$@"
  quietly "$@" 2>&1 | indent
}

# What a person tries, and the code that it is refused with: CODE, or CODE:WHY.
refused() {
  local code=${1%%:*} why=${1#*:} status=0
  shift
  command_line "$@"
  told=$(quietly "$@" 2>&1) || status=$?
  if ((status == 0)); then surprise "this was not refused: $told"; fi
  [[ $told == *"($code)"* ]] || surprise "this was to be refused as $code: $told"
  [[ $why == "$code" || $told == *"[$why]"* ]] || surprise "this was to be refused for $why: $told"
  grep -E '^(error|hint):' <<<"$told" | indent
}

# The auditor, with the roster's first digest and the log's key that were kept elsewhere. A rehearsal lies in the future.
verified() {
  as audrey "$dir/keyward" ceremony verify "$1" --roster rosters.json --genesis "$pinned" --log-key log.key --any-time
}

# keyward as the one who runs it.
ours() {
  command_line root "$@"
  case $1 in
    audit) "$dir/keyward" "$@" ;;
    *) "$dir/keyward" "$@" --config "$dir/etc/keyward.toml" ;;
  esac 2>&1 | indent
}

# Proposes, and prints the ceremony's id alone.
propose() {
  local who=$1 key
  shift
  key=$(key "$who")
  if [[ $who == alice ]]; then key=$dir/table/alice.pub; fi
  command_line "$who" ceremony propose "$@" >&2
  quietly "$who" ceremony propose "$@" --initiator "$who" --key "$key" --yes --json | jq -er .id
}

approve() {
  show "$1" ceremony approve "$2" --as "$1" --key "$(key "$1")" --yes
}

# A whole ceremony: alice proposes, bob and carol approve (carol by ssh-keygen alone), oscar carries it out.
decided() {
  local action=$1 reason=$2 id
  shift 2
  id=$(propose alice "$action" --reason "$reason" "$@")
  show alice ceremony show "$id"
  approve bob "$id"
  if [[ $(quietly audrey ceremony show "$id" --json | jq -r .state) != ready ]]; then
    quietly carol ceremony approve "$id" --as carol --print 2>/dev/null >"$id.txt"
    as carol ssh-keygen -q -Y sign -n keyward-rehearsal -f "$(key carol)" "$id.txt"
    show carol ceremony approve "$id" --as carol --signature "$id.txt.sig"
  fi
  show oscar ceremony execute "$id"
}

active() {
  quietly oscar keyring show patients --json | jq -er '[.versions[] | select(.state == "active")][0].id'
}

last_opened() {
  quietly oscar keyring inventory --json |
    jq -e --arg id "$1" '.keyrings[].versions[] | select(.id == $id) | .last_opened'
}

seal() {
  echo -n "$1" | as portal "$dir/keyward" seal --keyring patients --context patient=Patient/1 --context field=name \
    --socket "$dir/run/data.sock"
}

open() {
  as "$1" "$dir/keyward" open "$3" --purpose "$2" --context patient=Patient/1 --context field=name \
    --socket "$dir/run/data.sock"
}

opens() {
  local text
  text=$(open "$2" "$3" "$4") || surprise "$2 cannot open the value for $3"
  [[ $text == "$1" ]] || surprise "$2 opened something else"
  note "$2 opens the value for $3"
}

stays_shut() {
  if told=$(open "$1" "$2" "$3" 2>&1); then surprise "$1 opened the value for $2"; fi
  note "$1 does not open it for $2: $(head -1 <<<"$told")"
}

serve() {
  "$dir/keyward" serve --config "$dir/etc/keyward.toml" 2>>"$dir/serve.log" &
  server=$!
  eventually quietly oscar ceremony list >/dev/null 2>&1 || eventually quietly alice custody show
}

stop() {
  kill "$server"
  wait "$server" || surprise "the sidecar ended with $?"
  server=""
}

# Until it succeeds, for half a minute.
eventually() {
  local tries
  for ((tries = 0; tries < 300; tries++)); do
    if "$@" >/dev/null 2>&1; then return; fi
    if [[ -n $server ]] && ! kill -0 "$server" 2>/dev/null; then break; fi
    sleep 0.1
  done
  surprise "this does not come to be: $*"
}

store() { quietly audrey custody show --json | jq -er .store; }
key() { echo "$dir/people/$1/key"; }
title() { printf '\n=== %s\n' "$*"; }
note() { printf -- '--- %s\n' "$*"; }
indent() { sed -e "s#$dir/##g" -e 's/^/    /'; }
command_line() { printf '%s$ keyward %s\n' "$1" "${*:2}" | sed "s#$dir/##g"; }

die() {
  printf '%s\n' "$*" >&2
  exit 2
}

surprise() {
  printf 'SURPRISE: %s\n' "$*" >&2
  if ((BASH_SUBSHELL == 0)) && [[ -e $dir/serve.log ]]; then tail -20 "$dir/serve.log" >&2; fi
  exit 1
}

leave() {
  local code=$?
  trap - EXIT ERR
  cd /
  if [[ -n $server ]]; then kill "$server" 2>/dev/null || true; fi
  # The agent is a child of the shell that became alice: it goes by its place.
  if [[ -n $agent ]]; then pkill -f -- "-a $dir/people/alice/agent" 2>/dev/null || true; fi
  wait || true
  rm -rf "$dir"
  exit "$code"
}

main
