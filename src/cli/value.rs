//! `keyward seal` and `keyward open`: one value, from and to standard streams.

use std::io::{IsTerminal, Read};
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::secret::SecretBytes;

use super::connect::{Listener, Target, block_on};
use super::failure::{Context, Exit, Failure};

/// Seal standard input (all of it, as bytes) and print the sealed value.
#[derive(Debug, clap::Args)]
pub(super) struct Seal {
    /// The keyring to seal under
    #[arg(long, short)]
    keyring: String,
    /// A context pair KEY=VALUE; the same pairs are needed to open (may be repeated)
    #[arg(long = "context", value_name = "KEY=VALUE", value_parser = pair)]
    context: Vec<(String, String)>,
    #[command(flatten)]
    target: Target,
}

/// Open a sealed value and print the plaintext to standard output, byte for byte.
#[derive(Debug, clap::Args)]
pub(super) struct Open {
    /// The sealed value (kw1....); read from standard input if not given
    sealed: Option<String>,
    /// A context pair KEY=VALUE, as it was when the value was sealed (may be repeated)
    #[arg(long = "context", value_name = "KEY=VALUE", value_parser = pair)]
    context: Vec<(String, String)>,
    /// Purpose of use: TREAT, HPAYMT, HOPERAT, PATRQT, ETREAT, BTG, ...
    #[arg(long, short)]
    purpose: String,
    #[command(flatten)]
    target: Target,
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) fn object(pairs: impl IntoIterator<Item = (String, String)>) -> Value {
    Value::Object(pairs.into_iter().map(|(key, value)| (key, Value::String(value))).collect::<Map<_, _>>())
}

impl Seal {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let plaintext = SecretBytes::new(input()?);
        block_on(async {
            let mut sidecar = self.target.connect(Listener::Data).await?;
            let body = json!({ "context": object(self.context), "bytes": STANDARD.encode(plaintext.expose()) });
            let answer = sidecar.ask("POST", &format!("/v1/keyrings/{}/seal", self.keyring), Some(&body)).await?;
            println!("{}", answer["sealed"].as_str().unwrap_or_default());
            Ok(ExitCode::SUCCESS)
        })
    }
}

impl Open {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let sealed = match self.sealed {
            Some(sealed) => sealed,
            None => String::from_utf8(input()?).doing(Exit::Data, "standard input")?.trim_end().to_owned(),
        };
        block_on(async {
            let mut sidecar = self.target.connect(Listener::Data).await?;
            let body =
                json!({ "sealed": sealed, "context": object(self.context), "purpose": self.purpose, "as": "bytes" });
            let answer = sidecar.ask("POST", "/v1/open", Some(&body)).await?;
            let bytes = STANDARD.decode(answer["bytes"].as_str().unwrap_or_default());
            let bytes = SecretBytes::new(bytes.doing(Exit::Software, "the sidecar's answer")?);
            super::out::bytes(bytes.expose());
            Ok(ExitCode::SUCCESS)
        })
    }
}

fn input() -> Result<Vec<u8>, Failure> {
    let mut stdin = std::io::stdin();
    if stdin.is_terminal() {
        eprintln!("reading standard input; end it with Ctrl-D");
    }
    let mut bytes = Vec::new();
    stdin.read_to_end(&mut bytes).doing(Exit::Data, "cannot read standard input")?;
    Ok(bytes)
}
