//! `keyward hsm list|show|probe`: what is known of each HSM product, and what a token shows of itself.

use std::process::ExitCode;

use clap::Subcommand;
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::kek::profile::{Profile, ProfileChoice, ProfileError, SHIPPED, WrapMethod};

use super::failure::{Exit, Failure, chain};

/// What is known of each HSM product, and what a token shows of itself.
#[derive(Debug, Subcommand)]
pub(super) enum Hsm {
    /// List the profiles that keyward ships
    List(List),
    /// Print a profile as it is written, to copy and change
    Show(Show),
    Probe(Box<super::probe::Probe>),
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// The profile's id, as `keyward hsm list` shows it
    id: String,
}

impl Hsm {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Probe(probe) => return probe.run(),
            Self::List(list) => list.run()?,
            Self::Show(show) => print!("{}", Profile::text_of(&show.id).map_err(|error| refused(&error))?),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl List {
    fn run(&self) -> Result<(), Failure> {
        let load = |(id, _): &(&str, &str)| Profile::load(&ProfileChoice::Shipped((*id).into()));
        let profiles: Vec<Profile> =
            SHIPPED.iter().map(load).collect::<Result<_, _>>().map_err(|error| refused(&error))?;
        if self.json {
            println!("{:#}", json!({ "profiles": profiles.iter().map(machine).collect::<Vec<_>>() }));
        } else {
            println!("{}", table(&profiles));
        }
        Ok(())
    }
}

fn table(profiles: &[Profile]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["id", "product", "verified", "methods, first choice first"]);
    for profile in profiles {
        let methods: Vec<String> = profile.wrap.iter().map(method).collect();
        table.add_row([&profile.id, &profile.product, profile.verified.name(), &methods.join("\n")]);
    }
    table
}

/// `aes-gcm (hsm-prepended)`.
fn method(wrap: &WrapMethod) -> String {
    match wrap.variant() {
        Some(variant) => format!("{} ({variant})", wrap.name()),
        None => wrap.name().into(),
    }
}

fn machine(profile: &Profile) -> Value {
    let methods = profile.wrap.iter().map(
        |wrap| json!({ "method": wrap.name(), "variant": wrap.variant(), "mechanism": format!("{:#x}", wrap.mechanism()) }),
    );
    json!({
        "id": profile.id,
        "product": profile.product,
        "verified": profile.verified.name(),
        "methods": methods.collect::<Vec<_>>(),
    })
}

fn refused(error: &ProfileError) -> Failure {
    Failure::new(Exit::Usage, chain(error)).hint("`keyward hsm list` shows the profiles that keyward ships")
}
