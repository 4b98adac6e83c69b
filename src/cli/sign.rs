//! How does a person sign a text? `ssh-keygen -Y sign` does it, with a key in a file, an agent or a token: a private key
//! never comes near this process, and no file is written for it.

use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::failure::{Context, Exit, Failure};

/// The key of whoever signs.
#[derive(Debug, clap::Args)]
pub(super) struct Key {
    /// The key to sign with: a private key file, or the .pub file of a key that the SSH agent holds
    #[arg(long, value_name = "FILE")]
    pub(super) key: Option<PathBuf>,
}

impl Key {
    /// The file; without one there is nothing to sign with.
    pub(super) fn named(&self) -> Result<&Path, Failure> {
        self.key.as_deref().ok_or_else(|| {
            Failure::new(Exit::Usage, "no key to sign with").hint(
                "name it with --key, or sign elsewhere: --print gives the exact text, --signature takes the signature",
            )
        })
    }
}

/// Signs a text in a namespace and gives the armoured signature.
pub(super) fn sign(text: &str, namespace: &str, key: &Path) -> Result<String, Failure> {
    std::fs::metadata(key).doing(Exit::Unavailable, format!("the key {} cannot be read", key.display())).map_err(
        |failure| failure.hint("name the private key file, or the .pub file of a key that the agent or a token holds"),
    )?;
    let mut child = start(namespace, key)?;
    if let Some(mut input) = child.stdin.take() {
        // One that refuses its key reads nothing; its own words say why.
        let _unread = input.write_all(text.as_bytes());
    }
    // A signature fits into a pipe: ssh-keygen never waits for us to read it.
    let said = echoed(&mut child);
    let done = child.wait_with_output().doing(Exit::Unavailable, "ssh-keygen did not end")?;
    let signature = String::from_utf8(done.stdout).unwrap_or_default();
    if done.status.success() && signature.starts_with(ARMOUR) {
        return Ok(signature);
    }
    Err(refused(&said, key))
}

/// The command that signs a text which lies in a file.
pub(super) fn by_hand(namespace: &str, file: &str) -> String {
    format!("ssh-keygen -Y sign -n {namespace} -f KEY {file}")
}

/// A signature that was made elsewhere.
pub(super) fn read_signature(file: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file).doing(Exit::Data, format!("cannot read {}", file.display()))?;
    if text.starts_with(ARMOUR) {
        // Whatever carried the file may have written line ends of its own.
        return Ok(text.replace("\r\n", "\n"));
    }
    Err(Failure::new(Exit::Data, format!("{} is not a signature of ssh-keygen", file.display())).hint(
        "it begins with -----BEGIN SSH SIGNATURE-----; ssh-keygen writes it beside what it signs, with .sig behind",
    ))
}

fn start(namespace: &str, key: &Path) -> Result<Child, Failure> {
    let mut command = Command::new("ssh-keygen");
    command.args(["-Y", "sign", "-n", namespace, "-f"]).arg(key);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::new(Exit::Unavailable, "ssh-keygen is not there").hint(
            "install OpenSSH's client (openssh-client), or sign on another machine: --print gives the exact text",
        ),
        _ => Failure::new(Exit::Unavailable, format!("ssh-keygen cannot be started: {error}")),
    })
}

/// What ssh-keygen says, shown as it comes: it asks for a touch of the token here.
fn echoed(child: &mut Child) -> String {
    let (mut said, mut chunk) = (Vec::new(), [0; 512]);
    let shown = std::io::stderr().is_terminal();
    let Some(errors) = child.stderr.as_mut() else { return String::new() };
    loop {
        match errors.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => {
                let words = chunk.get(..read).unwrap_or_default();
                said.extend_from_slice(words);
                if shown {
                    eprint!("{}", String::from_utf8_lossy(words));
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// What is to be done, where ssh-keygen's words tell it.
fn refused(said: &str, key: &Path) -> Failure {
    let why = said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it does not say why");
    let failure = Failure::new(Exit::Unavailable, format!("ssh-keygen did not sign with {}: {why}", key.display()));
    let hint = HINTS.iter().find(|(words, _)| said.contains(words)).map(|(_, hint)| *hint);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

const ARMOUR: &str = "-----BEGIN SSH SIGNATURE-----";

/// Words of ssh-keygen, and what to do then; the first that fit.
const HINTS: [(&str, &str); 7] = [
    (
        "agent refused operation",
        "the agent holds the key and refuses: unlock it, confirm the request, or touch the token",
    ),
    (
        "incorrect passphrase",
        "the passphrase is another one, or there was no terminal to ask for it: load the key with ssh-add",
    ),
    ("device not found", "plug in the token that holds the key"),
    ("bad permissions", "make the key file readable by you alone: chmod 600"),
    ("UNPROTECTED PRIVATE KEY", "make the key file readable by you alone: chmod 600"),
    ("No private key found", "load the key into the agent with ssh-add, or name its private key file"),
    ("Couldn't load", "name a key of OpenSSH; for a .pub file the agent must hold the key: ssh-add"),
];
