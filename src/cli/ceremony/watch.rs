//! `keyward ceremony watch`: what changes, as it changes.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use crate::ceremony::proposal::CeremonyId;
use crate::cli::connect::{Listener, Sidecar, Target, block_on};
use crate::cli::failure::Failure;
use crate::clock::{Clock, SystemClock};

use super::{listing, print};

/// People sign in minutes: nobody waits for a second look.
const POLL: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Watch {
    /// Only this ceremony, until it is over
    id: Option<CeremonyId>,
    #[command(flatten)]
    target: Target,
}

/// The line of each ceremony that was seen.
type Known = BTreeMap<String, String>;

impl Watch {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            let mut sidecar = self.target.connect(Listener::Control).await?;
            let mut known = Known::new();
            loop {
                let ceremonies = self.ask(&mut sidecar).await?;
                self.tell(&ceremonies, &mut known);
                let over = self.id.is_some() && ceremonies.iter().all(|one| one["open"] != true);
                if over || crate::cli::out::gone() {
                    return Ok(ExitCode::SUCCESS);
                }
                SystemClock.sleep_until(SystemClock.mono().plus(POLL)).await;
            }
        })
    }

    async fn ask(&self, sidecar: &mut Sidecar) -> Result<Vec<Value>, Failure> {
        if let Some(id) = &self.id {
            return Ok(vec![sidecar.ask("GET", &format!("/v1/ceremonies/{id}"), None).await?]);
        }
        match sidecar.ask("GET", listing(true), None).await?.get_mut("ceremonies").map(Value::take) {
            Some(Value::Array(ceremonies)) => Ok(ceremonies),
            _ => Ok(Vec::new()),
        }
    }

    /// Prints what is new, the oldest first; what was over before the first look is no news.
    fn tell(&self, ceremonies: &[Value], known: &mut Known) {
        for one in ceremonies.iter().rev() {
            let (id, now) = (print::text(one, "id").to_owned(), line(one));
            let seen = known.insert(id, now.clone());
            let wanted = one["open"] == true || self.id.is_some() || seen.is_some();
            if wanted && seen.as_ref() != Some(&now) {
                println!("{now}");
            }
        }
    }
}

fn line(one: &Value) -> String {
    let last = one["decisions"].as_array().and_then(|decisions| decisions.last());
    let said = |last| format!(" ({} {})", print::text(last, "person"), print::text(last, "word"));
    let last = last.map_or_else(String::new, said);
    format!("{} {}: {}{last}", print::text(one, "id"), print::text(one, "action"), print::state(one))
}
