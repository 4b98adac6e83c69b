//! `keyward demo`: the whole path on a real patient record, in a temporary directory, in seconds.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use crate::app::App;
use crate::config::Config;
use crate::durable::TemporaryDir;
use crate::fields::{self, FHIR_R4, FieldMap, Plan};

use super::bench::{self, Load};
use super::connect::Sidecar;
use super::document::{open_document, pairs, seal_document};
use super::failure::{Context, Exit, Failure};
use super::init::Token;

/// A synthetic patient with a year of visits.
const BUNDLE: &[u8] = include_bytes!("../../examples/fhir-bundle.json");
/// Fields of the patient worth looking at.
const SHOWN: [&str; 6] = [
    "name[0].family",
    "name[0].given[0]",
    "birthDate",
    "telecom[0].value",
    "address[0].line[0]",
    "identifier[2].value",
];
/// Sealed values are long; a table shows their beginning.
const SHOWN_CHARACTERS: usize = 44;

/// Show the whole path on a real patient record.
#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    #[command(flatten)]
    token: Token,
    /// Keep the temporary directory, to look around in it
    #[arg(long)]
    keep: bool,
}

impl Demo {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let dir = TemporaryDir::make("keyward-demo").doing(Exit::CannotCreate, "cannot make a temporary directory")?;
        let path = super::init::development(&dir.path().join("dev"), &self.token)?;
        let config = super::check::load(&path)?;
        super::serve::protect(&config)?;
        let log = config.state.log();
        super::serve::runtime()?.block_on(async {
            let sockets = (config.server.data_socket.clone(), config.server.control_socket.clone());
            let app = self.start(config).await?;
            let told = tell(&sockets.0, &sockets.1).await;
            app.drain().await;
            told
        })?;
        step(6, "the log, checked offline");
        super::audit::print_verified(&log)?;
        self.farewell(dir, &path)
    }

    async fn start(&self, config: Config) -> Result<App, Failure> {
        step(1, "a new sidecar");
        if self.token.pkcs11_module.is_some() {
            super::kek::ensure(&config).await?;
        }
        let founded = super::init::found_with(&config).await?;
        println!("   store     {}", founded.store);
        println!("   log key   {}", founded.log_key);
        println!("   KEK       {}", founded.kek);
        let app = super::serve::start(config).await?;
        app.opened().await;
        Ok(app)
    }

    fn farewell(&self, dir: TemporaryDir, config: &Path) -> Result<ExitCode, Failure> {
        println!("\nEverything above went through the real sidecar, its sockets and its log. Next:");
        println!("   keyward dev                                  a sidecar that stays, with curl lines to paste");
        println!("   keyward document explain FILE                what a profile would seal in a document of yours");
        println!("   keyward init --development DIR               a set-up of your own to look into");
        println!(
            "   keyward demo --pkcs11-module FILE --token-label LABEL --pin-file FILE    the same with a real token"
        );
        if self.keep {
            println!("\nkept: {}", config.display());
            dir.keep();
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn step(number: usize, what: &str) {
    println!("\n{number}. {what}");
}

async fn tell(data: &Path, control: &Path) -> Result<(), Failure> {
    let keyring = json!({ "name": "patients", "required_context": ["path", "resource"], "subject_key": "resource" });
    let made = Sidecar::connect(control).await?.ask("POST", "/v1/keyrings", Some(&keyring)).await?;
    println!(
        "   keyring   {} with key version {}",
        made["name"].as_str().unwrap_or("-"),
        made["versions"][0]["id"].as_str().unwrap_or("-")
    );

    let plan = FieldMap::parse(FHIR_R4).and_then(|map| map.plan("safe-harbor"));
    let plan = plan.doing(Exit::Software, "the shipped field map")?;
    let mut sidecar = Sidecar::connect(data).await?;
    step(2, "a FHIR bundle, sealed field by field");
    let sealed = seal_document(&mut sidecar, "patients", BUNDLE, &plan, false).await?;
    show(&sealed, &plan)?;
    step(3, "opened again");
    let opened = open_document(&mut sidecar, "TREAT", &sealed, &plan, false).await?;
    if opened != BUNDLE {
        return Err(Failure::new(Exit::Software, "the opened bundle differs from the original"));
    }
    println!("   all {} bytes are identical to the original", opened.len());
    step(4, "a sealed value moved to another patient");
    moved(&mut sidecar, &sealed, &plan).await?;
    step(5, "how fast: one value a request, and 100 a request, each request with its durable record");
    measure(data).await
}

fn show(sealed: &[u8], plan: &Plan) -> Result<(), Failure> {
    let before = fields::select(BUNDLE, plan).doing(Exit::Software, "the shipped bundle")?;
    let after = fields::sealed_spans(sealed, plan).doing(Exit::Software, "the sealed bundle")?;
    println!("   {} of its strings are PHI under the profile safe-harbor", before.values.len());
    for (plain, hidden) in before.values.iter().zip(&after.sealed) {
        if SHOWN.contains(&plain.path.as_str()) && plain.resource.starts_with("Patient/") {
            let shown: String = hidden.raw().chars().take(SHOWN_CHARACTERS).collect();
            println!("   {:<22} {:<26} {shown}...", plain.path, plain.raw());
        }
    }
    Ok(())
}

/// What somebody with the database but without the sidecar's keys would try.
async fn moved(sidecar: &mut Sidecar, sealed: &[u8], plan: &Plan) -> Result<(), Failure> {
    let found = fields::sealed_spans(sealed, plan).doing(Exit::Software, "the sealed bundle")?;
    let name = found.sealed.iter().find(|value| value.path == "name[0].family");
    let name = name.ok_or_else(|| Failure::new(Exit::Software, "the bundle has no family name"))?;
    let mut context = pairs(name);
    context["resource"] = json!("Patient/somebody-else");
    let body = json!({ "sealed": name.raw(), "context": context, "purpose": "TREAT" });
    match sidecar.ask("POST", "/v1/open", Some(&body)).await {
        Err(refused) => {
            println!("   refused: {refused}");
            Ok(())
        }
        Ok(_) => Err(Failure::new(Exit::Software, "a moved value opened: this must never happen")),
    }
}

async fn measure(data: &Path) -> Result<(), Failure> {
    let context = json!({ "resource": "Patient/bench", "path": "name[0].family" });
    for batch in [1, 100] {
        let load = Load { connections: 8, batch, size: 64, millis: 400 };
        let seal = bench::seal_request(&load, &context);
        let path = "/v1/keyrings/patients/seal";
        let answer = Sidecar::connect(data).await?.ask("POST", path, Some(&seal)).await?;
        let open = bench::open_request(&answer, &context, "TREAT");
        for (verb, path, body) in [("seal", path, &seal), ("open", "/v1/open", &open)] {
            let rate = bench::drive(data, &load, path, body).await?;
            println!(
                "   {verb} {batch:>3} a request: {:>7.0} values/s, {:>6.0} requests/s, p50 {:.1?}, p99 {:.1?}",
                rate.a_second(rate.values),
                rate.a_second(rate.requests),
                rate.percentile(50),
                rate.percentile(99)
            );
        }
    }
    Ok(())
}
