//! `keyward dev`: a development sidecar that stays, with requests to paste.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::connect::Sidecar;
use super::failure::Failure;
use super::init::Token;

/// Run a development sidecar and print ready-to-paste requests.
#[derive(Debug, clap::Args)]
pub(super) struct Dev {
    /// Where its configuration, keys and state live; made if it does not exist
    #[arg(long, value_name = "DIR", default_value = "./keyward-dev")]
    dir: PathBuf,
    #[command(flatten)]
    token: Token,
}

impl Dev {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let fresh = !self.dir.join("keyward.toml").exists();
        let path =
            if fresh { super::init::development(&self.dir, &self.token)? } else { self.dir.join("keyward.toml") };
        let config = super::check::load(&path)?;
        super::serve::protect(&config)?;
        let (data, control) = (config.server.data_socket.clone(), config.server.control_socket.clone());
        super::serve::runtime()?.block_on(async {
            if fresh {
                if self.token.pkcs11_module.is_some() {
                    super::kek::ensure(&config).await?;
                }
                super::init::found_with(&config).await?;
            }
            let app = super::serve::start(config).await?;
            app.opened().await;
            let mut operator = Sidecar::connect(&control).await?;
            let wanted = json!({ "name": "patients", "required_context": ["patient"], "subject_key": "patient" });
            let known = operator.ask("GET", "/v1/keyrings", None).await?;
            if known["keyrings"].as_array().is_none_or(Vec::is_empty) {
                operator.ask("POST", "/v1/keyrings", Some(&wanted)).await?;
            }
            let health = app.health_address().map_or_else(String::new, |at| at.to_string());
            println!("{}", lines(&data.display().to_string(), &path.display().to_string(), &health));
            app.serve_until(super::serve::stop_asked()?).await;
            Ok(ExitCode::SUCCESS)
        })
    }
}

fn lines(data: &str, config: &str, health: &str) -> String {
    format!(
        r#"keyward is running (development: not for patient data). Stop it with Ctrl-C.

seal a value:
  curl -s --unix-socket {data} http://localhost/v1/keyrings/patients/seal \
    -H 'content-type: application/json' \
    -d '{{"context": {{"patient": "Patient/1", "field": "name"}}, "text": "Ada Lovelace"}}'

open it (paste the value that seal printed):
  curl -s --unix-socket {data} http://localhost/v1/open \
    -H 'content-type: application/json' \
    -d '{{"sealed": "kw1...", "context": {{"patient": "Patient/1", "field": "name"}}, "purpose": "TREAT"}}'

look around:
  curl -s http://{health}/readyz?verbose
  keyward keyring list --config {config}
  keyward audit tail --config {config}
"#
    )
}
