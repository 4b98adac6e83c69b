//! `keyward custody`, `ceremony`, `grant` and `rehearsal` as people meet them before any sidecar answers: what they are asked,
//! what they are refused, and what the real `ssh-keygen` signs for them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use keyward::clock::Wall;
use keyward::identity::sshsig::SshKey;
use keyward::policy::approval::{namespace, verify_founding};
use keyward::policy::roster::{Credential, Member, Roster};

use crate::support::KEYWARD;
use crate::{run, text, told};

const CUSTODY_HELP: &str = "\
Who the custodians are: their genesis, the roster, and the end of a key

Usage: keyward custody <COMMAND>

Commands:
  show      Show the custodians and what is wrong with custody
  draft     Draw up the first roster from people and their public keys; nothing is changed yet
  sign      Sign the first roster, after reading its digest aloud with the others
  found     Put the first roster in force, signed by everybody on it; from then on one person
            changes no keys
  roster    Write every roster there was into a file, for auditors: `keyward ceremony verify` needs
            it
  accept    Show that a key is in your hands and accept the duties, before a ceremony enrols you
            with it
  settings  Print the guarded settings of a configuration with their digest; nothing is asked or
            changed
  revoke    End a person's keys, or one of them, at once; it takes one person, and the way back a
            ceremony
  help      Print this message or the help of the given subcommand(s)

Options:
  -h, --help     Print help
  -V, --version  Print version
";

const CEREMONY_HELP: &str = "\
What several people decide together: propose, approve, carry out, verify

Usage: keyward ceremony <COMMAND>

Commands:
  propose   Draft a proposal, show what it does, sign it and lay it before the others
  show      Show a ceremony: what it does, who decided, what is missing
  list      List the ceremonies that are not over
  approve   Approve a proposal, by a signature over exactly what it does
  deny      Deny a proposal, for everybody and for good
  withdraw  Withdraw one's own proposal
  execute   Carry out what enough people have approved, once
  minutes   Print what happened, to be kept and verified without us
  verify    Verify minutes offline: every digest, signature, rule and proof in them
  watch     Print changes as they come, until the ceremony is over or for ever
  help      Print this message or the help of the given subcommand(s)

Options:
  -h, --help     Print help
  -V, --version  Print version
";

const GRANT_HELP: &str = "\
Time-bound exceptions: list, end and review them

Usage: keyward grant <COMMAND>

Commands:
  list    List grants and broken glasses; ends with 1 while a review is overdue
  end     End a grant before its time; it takes one person
  review  Say of a broken glass that it was justified, or not; by somebody who had no part in it
  help    Print this message or the help of the given subcommand(s)

Options:
  -h, --help     Print help
  -V, --version  Print version
";

const REHEARSAL_HELP: &str = "\
Move the clock of a rehearsal

Usage: keyward rehearsal <COMMAND>

Commands:
  advance  Move the sidecar's clock forward; `[custody] clock = \"rehearsal\"`, in development only
  help     Print this message or the help of the given subcommand(s)

Options:
  -h, --help     Print help
  -V, --version  Print version
";

const LOCK_HELP: &str = "\
Stop a principal, a keyring or the sidecar at once

Usage: keyward lock <COMMAND>

Commands:
  engage   Lock at once; it takes one person
  list     List locks; ends with 1 while there is one in force
  release  Lift a lock while there are no custodians; with them: `keyward ceremony propose
           sidecar.unlock`
  help     Print this message or the help of the given subcommand(s)

Options:
  -h, --help     Print help
  -V, --version  Print version
";

#[test]
fn the_verbs_of_custodians_say_what_they_are() {
    let verbs = [
        ("custody", CUSTODY_HELP),
        ("ceremony", CEREMONY_HELP),
        ("grant", GRANT_HELP),
        ("lock", LOCK_HELP),
        ("rehearsal", REHEARSAL_HELP),
    ];
    for (verb, expected) in verbs {
        let (code, shown, said) = run(&[verb, "--help"]);
        assert_eq!((code, shown.as_str(), said.as_str()), (Some(0), expected, ""), "\n{shown}");
    }
}

#[test]
fn the_help_of_propose_tells_every_action_with_its_tier_and_what_it_takes() {
    let (_, shown, _) = run(&["ceremony", "propose", "--help"]);
    for action in keyward::ceremony::Action::ALL {
        assert!(shown.contains(&format!("\n  {action} (tier {})\n", action.tier())), "{action}\n{shown}");
    }
    assert!(shown.contains("      [subject_key]: a context key of letters, digits, _, . and -\n"), "{shown}");
    let (_, short, _) = run(&["ceremony", "propose", "-h"]);
    assert!(short.ends_with("--help tells what each ACTION takes.\n"), "{short}");
}

/// An id that looks like one.
const ID: &str = "01M85FG8VNXD0ZQ01RYAQVH4JC";

#[test]
fn what_cannot_be_signed_is_refused_before_a_sidecar_is_asked() {
    let propose = ["ceremony", "propose", "keyring.create", "--initiator", "alice", "--reason", "new"];
    let cases: [(&[&str], i32, &str); 9] = [
        (
            &[],
            64,
            "error: keyring.create lacks keyring\nhint: `keyward ceremony propose --help` tells what each action takes\n",
        ),
        (
            &["--set", "keyring=A"],
            64,
            "error: the parameter keyring must be the name of a keyring (TENANT/NAME, or NAME)\n\
             hint: `keyward ceremony propose --help` tells what each action takes\n",
        ),
        (&["--set", "keyring=a", "--set", "keyring=b"], 64, "error: keyring is set twice\n"),
        (&["--set", "keyring=@/nowhere"], 65, "error: cannot read /nowhere: No such file or directory (os error 2)\n"),
        (&["--set", "keyring=a"], 64, NO_KEY),
        (&["--set", "keyring=a", "--set", "colour=red"], 64, UNKNOWN),
        (&["--set", "keyring"], 64, ""),
        (&["--proposal", "x"], 64, ""),
        (&["--print", "x", "--key", "y"], 64, ""),
    ];
    for (more, code, expected) in cases {
        let (found, shown, said) = run(&[&propose[..], more].concat());
        assert_eq!((found, shown.as_str()), (Some(code), ""), "{more:?}\n{said}");
        assert!(expected.is_empty() || said == expected, "{more:?}\n{said}");
    }
    for verb in ["approve", "deny", "withdraw"] {
        let (code, shown, said) = run(&["ceremony", verb, ID, "--as", "alice"]);
        assert_eq!((code, shown.as_str(), said.as_str()), (Some(64), "", NO_KEY));
    }
    let (code, _, said) = run(&["grant", "review", ID, "--as", "victor", "--verdict", "justified"]);
    assert_eq!((code, said.as_str()), (Some(64), NO_KEY));
}

const NO_KEY: &str = "error: no key to sign with\n\
    hint: name it with --key, or sign elsewhere: --print gives the exact text, --signature takes the signature\n";
const UNKNOWN: &str = "error: keyring.create takes no parameter of that name; it takes keyring, required_context, subject_key, \
    partition_key, suite, escrow\nhint: `keyward ceremony propose --help` tells what each action takes\n";

#[test]
fn ids_times_and_names_are_read_strictly() {
    let cases: [&[&str]; 8] = [
        &["ceremony", "show", "01m85fg8vnxd0zq01ryaqvh4jc"],
        &["ceremony", "approve", ID, "--as", "Alice", "--key", "k"],
        &["ceremony", "approve", ID, "--as", "alice", "--key", "k", "--expires", "1w"],
        &["ceremony", "approve", ID, "--as", "alice", "--key", "k", "--expires", "2026-02-31T00:00:00Z"],
        &["ceremony", "approve", ID, "--as", "alice", "--key", "k", "--signature", "s"],
        &["ceremony", "propose", "keyring.destroy", "--initiator", "alice", "--reason", "new"],
        &["rehearsal", "advance", "25"],
        &["custody", "revoke", "alice", "--reason", "bored"],
    ];
    for arguments in cases {
        let (code, shown, said) = run(arguments);
        assert_eq!((code, shown.as_str()), (Some(64), ""), "{arguments:?}\n{said}");
    }
    let late = ["ceremony", "approve", ID, "--as", "alice", "--signature", "s", "--expires", "24h"];
    let (code, _, said) = run(&late);
    assert_eq!(code, Some(64));
    assert_eq!(
        said,
        "error: the time of --expires must be the one that was signed\n\
         hint: give it as --print told it, as in --expires 2026-01-31T00:00:00Z\n"
    );
}

/// People with keys of the real ssh-keygen, and the roster that they would be.
struct Founders {
    dir: tempfile::TempDir,
    roster: Roster,
}

impl Founders {
    fn new(environment: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let members = ["alice", "bob", "carol"].map(|name| {
            let key = dir.path().join(name);
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
            assert!(made.unwrap().success());
            let line = std::fs::read_to_string(key.with_extension("pub")).unwrap();
            let key = SshKey::parse(&line).unwrap();
            let credentials = vec![Credential { key, enrolled: Wall(1), revoked: None }];
            Member {
                person: name.parse().unwrap(),
                since: Wall(1),
                recertify_by: Wall(2),
                acknowledgement: [7; 32],
                credentials,
            }
        });
        let roster = Roster {
            store: "00112233445566778899aabbccddeeff".to_owned(),
            environment: environment.to_owned(),
            generation: 1,
            previous: None,
            separation: [9; 32],
            made_by: "genesis".to_owned(),
            members: members.into(),
        };
        std::fs::write(dir.path().join("roster.json"), roster.canonical()).unwrap();
        Self { dir, roster }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn sign(&self, person: &str, more: &[&str]) -> (Option<i32>, String, String) {
        let roster = text(&self.path("roster.json"));
        let mut command = Command::new(KEYWARD);
        command.args(["custody", "sign", &roster, "--as", person]).args(more).current_dir(self.dir.path());
        told(&command.env_remove("SSH_AUTH_SOCK").output().unwrap())
    }
}

#[test]
fn a_roster_is_signed_by_the_real_ssh_keygen_after_its_digest_was_shown() {
    for (environment, production) in [("development", false), ("production", true)] {
        let founders = Founders::new(environment);
        let digest = founders.roster.digest();
        for person in ["alice", "bob", "carol"] {
            let (code, shown, said) = founders.sign(person, &["--key", person, "--yes"]);
            assert_eq!((code, said.as_str()), (Some(0), ""), "{shown}");
            let (hexadecimal, words) = (hex::encode(digest), keyward::ceremony::words::encode(&digest));
            let one_line = shown.split_whitespace().collect::<Vec<_>>().join(" ");
            let groups: Vec<&str> = (0..8).map(|at| &hexadecimal[8 * at..8 * at + 8]).collect();
            assert!(one_line.contains(&groups.join(" ")) && one_line.contains(&words), "{shown}");
            assert!(shown.ends_with(&format!("wrote {person}.sig\n")), "{shown}");
        }
        let signature = |person: &str| {
            let armoured = std::fs::read_to_string(founders.path(&format!("{person}.sig"))).unwrap();
            (person.parse().unwrap(), armoured)
        };
        let signatures = ["alice", "bob", "carol"].map(signature);
        assert_eq!(verify_founding(&founders.roster, &signatures, namespace(production)), Ok(()));
        assert!(verify_founding(&founders.roster, &signatures, namespace(!production)).is_err());
        let left: Vec<String> = entries(founders.dir.path());
        let expected =
            ["alice", "alice.pub", "alice.sig", "bob", "bob.pub", "bob.sig", "carol", "carol.pub", "carol.sig"];
        assert_eq!(left[..9], expected.map(str::to_owned), "nothing else is left behind: {left:?}");
    }
}

fn entries(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn what_is_signed_elsewhere_is_printed_byte_for_byte() {
    let founders = Founders::new("development");
    let (code, shown, said) = founders.sign("bob", &["--print"]);
    assert_eq!((code, shown), (Some(0), Roster::statement(&founders.roster.digest(), &"bob".parse().unwrap())));
    assert_eq!(
        said,
        "these are the three lines to sign, in a file of their own: ssh-keygen -Y sign -n keyward-rehearsal -f KEY FILE\n"
    );
}

#[test]
fn a_roster_is_not_signed_without_a_yes_for_somebody_else_or_over_a_file() {
    let founders = Founders::new("development");
    let (code, shown, said) = founders.sign("bob", &["--key", "bob"]);
    assert_eq!(code, Some(64), "{shown}");
    assert!(said.starts_with("error: nobody is at the terminal to say yes\nhint: "), "{said}");
    let (code, _, said) = founders.sign("dave", &["--key", "bob", "--yes"]);
    assert_eq!((code, said.as_str()), (Some(65), "error: dave is not on this roster\n"));
    std::fs::write(founders.path("bob.sig"), "mine").unwrap();
    let (code, _, said) = founders.sign("bob", &["--key", "bob", "--yes"]);
    assert_eq!(code, Some(73), "{said}");
    assert!(said.ends_with("bob.sig exists already\nhint: name a file that is new\n"), "{said}");
    assert_eq!(std::fs::read_to_string(founders.path("bob.sig")).unwrap(), "mine");
    let edited = founders.roster.canonical().replace("\"generation\":1", "\"generation\": 1");
    std::fs::write(founders.path("roster.json"), edited).unwrap();
    let (code, _, said) = founders.sign("bob", &["--key", "bob", "--yes"]);
    assert_eq!(code, Some(65));
    assert!(said.contains("this is no roster to sign: not a roster: not canonical JSON"), "{said}");
}

#[test]
fn why_ssh_keygen_does_not_sign_is_said_with_what_to_do() {
    let founders = Founders::new("development");
    let (code, _, said) = founders.sign("bob", &["--key", "nowhere", "--yes"]);
    assert_eq!(code, Some(69));
    assert_eq!(
        said,
        "error: the key nowhere cannot be read: No such file or directory (os error 2)\n\
         hint: name the private key file, or the .pub file of a key that the agent or a token holds\n"
    );
    std::fs::remove_file(founders.path("carol")).unwrap();
    let (code, _, said) = founders.sign("carol", &["--key", "carol.pub", "--yes"]);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.starts_with("error: ssh-keygen did not sign with carol.pub: "), "{said}");
    assert!(said.contains("\nhint: ") && said.contains("ssh-add"), "{said}");
    std::fs::set_permissions(founders.path("bob"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, _, said) = founders.sign("bob", &["--key", "bob", "--yes"]);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.ends_with("hint: make the key file readable by you alone: chmod 600\n"), "{said}");
    let mut command = Command::new(KEYWARD);
    let roster = text(&founders.path("roster.json"));
    let alice = text(&founders.path("alice"));
    command.args(["custody", "sign", &roster, "--as", "alice", "--key", &alice, "--yes"]).env("PATH", "/nowhere");
    let (code, _, said) = told(&command.output().unwrap());
    assert_eq!(code, Some(69));
    assert_eq!(
        said,
        "error: ssh-keygen is not there\nhint: install OpenSSH's client (openssh-client), or sign on another machine: \
         --print gives the exact text\n"
    );
}

#[test]
fn a_private_key_is_not_taken_for_a_public_one_and_other_files_are_no_signatures() {
    let founders = Founders::new("development");
    let (alice, roster) = (text(&founders.path("alice")), text(&founders.path("roster.json")));
    let out = text(&founders.path("out.json"));
    let (code, _, said) = run(&["custody", "draft", "--member", &format!("alice:{alice}"), "--out", &out]);
    assert_eq!(code, Some(65));
    assert_eq!(
        said,
        format!("error: {alice} is not a public key\nhint: name the .pub file beside it; a private key goes nowhere\n")
    );
    let (code, _, said) = run(&["custody", "found", &roster, "--signature", &format!("alice={roster}")]);
    assert_eq!(code, Some(65));
    assert!(said.starts_with(&format!("error: {roster} is not a signature of ssh-keygen\nhint: ")), "{said}");
}

#[test]
fn minutes_that_are_none_do_not_verify() {
    let founders = Founders::new("development");
    let roster = text(&founders.path("roster.json"));
    let (code, shown, said) = run(&["ceremony", "verify", &roster, "--roster", &roster]);
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.starts_with("FAILED form "), "{shown}");
    assert_eq!(said, "error: the minutes do not verify: form\n");
    let (code, _, said) = run(&["ceremony", "verify", &roster, "--roster", &roster, "--genesis", "wallet replica"]);
    assert_eq!(code, Some(64));
    assert_eq!(said, "error: this is not a digest\nhint: write its 64 hexadecimal digits, or its 32 words in quotes\n");
}
