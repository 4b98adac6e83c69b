//! `keyward keyring lookup ...`: the look-up keys of a keyring, over the control socket.

use clap::Subcommand;
use serde_json::{Value, json};

use super::{Output, REASONS, Request, given, post};

/// Make and rotate look-up keys, which deterministic values, blind indexes and tokens are made with.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Lookup {
    /// Make a look-up key with its first version
    Create(Create),
    /// Give a look-up key its next version; the one before matches on until it is retired
    Rotate(Rotate),
    /// End the version before the newest, once no value is left that it made
    Retire(Retire),
    /// List the look-up keys of a keyring with their versions
    List(List),
}

/// Which look-up key.
#[derive(Debug, clap::Args)]
struct Which {
    /// tenant/name of the keyring, or a name in the tenant default
    keyring: String,
    /// deterministic/NAME, index/NAME or token/NAME
    lookup: String,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Create {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Rotate {
    #[command(flatten)]
    which: Which,
    /// Why it is rotated
    #[arg(long, value_parser = ["schedule", "usage", "personnel", "architecture", "incident"])]
    trigger: String,
    /// Only if this is the number of the newest version, so that two people do not rotate twice
    #[arg(long, value_name = "NUMBER")]
    expect: Option<u32>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Retire {
    #[command(flatten)]
    which: Which,
    /// Why
    #[arg(long, value_parser = REASONS)]
    reason: String,
    /// The number of the version; the oldest that is left if not given
    #[arg(long, value_name = "NUMBER")]
    number: Option<u32>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct List {
    /// tenant/name, or a name in the tenant default
    name: String,
    #[command(flatten)]
    output: Output,
}

impl Lookup {
    pub(super) fn request(self) -> Request {
        match self {
            Self::Create(Create { which, output }) => which.post(output, "", []),
            Self::Rotate(Rotate { which, trigger, expect, output }) => {
                which.post(output, "/rotate", [("trigger", Some(json!(trigger))), ("expect", expect.map(Value::from))])
            }
            Self::Retire(Retire { which, reason, number, output }) => {
                which.post(output, "/retire", [("reason", Some(json!(reason))), ("version", number.map(Value::from))])
            }
            Self::List(List { name, output }) => {
                Request { output, method: "GET", path: format!("/v1/keyrings/{name}"), body: None }
            }
        }
    }
}

impl Which {
    fn post<const N: usize>(self, output: Output, verb: &str, fields: [(&str, Option<Value>); N]) -> Request {
        let Self { keyring, lookup } = self;
        let mut body = given(fields);
        body["keyring"] = json!(keyring);
        body["lookup"] = json!(lookup);
        post(output, format!("/v1/lookup-keys{verb}"), body)
    }
}
