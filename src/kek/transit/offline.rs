//! What does a server say of its key, and how is it rotated? For an operator, with the login of the configuration.
//! This module never wraps and never unwraps: `keyward kek show` needs no more rights than reading the key.

use std::time::Duration;

use crate::clock::SharedClock;
use crate::kek::{Deployment, KekFacts, KekReport, KekVersion, Rotated, StartError, Uptake};

use super::TransitKek;
use super::api::{self, KeyInfo};
use super::client::Connections;
use super::fault::{Fault, Setback, clean};
use super::login::{self, Login};
use super::settings::{Auth, TransitSettings};
use super::versions::describe;

impl TransitKek {
    /// The key as the server describes it.
    pub async fn inspect(
        settings: TransitSettings,
        deployment: Deployment,
        clock: SharedClock,
    ) -> Result<KekReport, StartError> {
        let visit = Visit::begin(settings, deployment, clock).await?;
        let report = visit.report().await;
        visit.end().await;
        report
    }

    /// Has the server make the version after the newest, unless it has `to` already. Needs `update` on
    /// `MOUNT/keys/KEY/rotate`, which a sidecar does not.
    pub async fn rotate(
        settings: TransitSettings,
        to: Option<u32>,
        deployment: Deployment,
        clock: SharedClock,
    ) -> Result<Rotated, StartError> {
        let visit = Visit::begin(settings, deployment, clock).await?;
        let rotated = visit.rotate(to).await;
        visit.end().await;
        rotated
    }
}

/// A short stay at the server.
struct Visit {
    settings: TransitSettings,
    connections: Connections,
    login: Login,
    clock: SharedClock,
}

impl Visit {
    async fn begin(settings: TransitSettings, deployment: Deployment, clock: SharedClock) -> Result<Self, StartError> {
        let name = settings.name.clone();
        let wrong = |problem: String| StartError::Setting { kek: name.clone(), problem };
        settings.check(deployment).map_err(wrong)?;
        login::check_files(&settings.auth).map_err(wrong)?;
        let connections = Connections::prepare(&settings).map_err(wrong)?;
        let tried = login::login(&connections, &settings.auth, clock.mono());
        let login = limited(&clock, tried, Setback::Away(LATE.into())).await;
        let login = login.map_err(|setback| setback.as_start_error(&name))?;
        Ok(Self { settings, connections, login, clock })
    }

    /// The token that a login made is not left behind; one that somebody else made is.
    async fn end(self) {
        if !matches!(self.settings.auth, Auth::Token { .. }) {
            let revoked = async {
                login::revoke(&self.login.caller).await;
                Ok(())
            };
            let _it_expires = limited(&self.clock, revoked, Fault::Away(LATE.into())).await;
        }
    }

    async fn report(&self) -> Result<KekReport, StartError> {
        let info = self.key().await?;
        let outsider = self.connections.outsider();
        let server = limited(&self.clock, api::read_server(&outsider), Fault::Away(LATE.into())).await;
        let version = server.map_or_else(|_| String::new(), |it| clean(&format!("{} {}", it.version, it.cluster_name)));
        let facts = KekFacts { version, ..describe(&self.settings, &info) };
        Ok(KekReport {
            facts,
            version: info.latest_version,
            attributes: info.lines(),
            objection: info.objection().map(str::to_owned),
            versions: versions(&info),
        })
    }

    async fn rotate(&self, to: Option<u32>) -> Result<Rotated, StartError> {
        let latest = self.key().await?.latest_version;
        let version = to.unwrap_or(latest.saturating_add(1));
        if version == 0 || version > latest.saturating_add(1) {
            let problem = format!("version {latest} is the newest, so the next one is {}, not {version}", latest + 1);
            return Err(StartError::Setting { kek: self.settings.name.clone(), problem });
        }
        let mut made = Vec::new();
        if version > latest {
            let asked = api::rotate(&self.login.caller, &self.settings);
            self.asked(asked, ("rotate", "update", "/rotate")).await?;
            made.push(format!("version {version} of {}/keys/{}", self.settings.mount, self.settings.key));
        }
        let report = self.report().await?;
        Ok(Rotated { version: report.version, report, made, uptake: Uptake::AtOnce })
    }

    async fn key(&self) -> Result<KeyInfo, StartError> {
        let asked = api::read_key(&self.login.caller, &self.settings);
        self.asked(asked, ("show", "read", "")).await
    }

    /// An answer, or which right is missing.
    async fn asked<T>(
        &self,
        call: impl Future<Output = Result<T, Fault>>,
        (verb, right, path): (&str, &str, &str),
    ) -> Result<T, StartError> {
        let (mount, key) = (&self.settings.mount, &self.settings.key);
        let setback = match limited(&self.clock, call, Fault::Away(LATE.into())).await {
            Ok(answer) => return Ok(answer),
            Err(Fault::Forbidden(told)) => Setback::Denied(format!(
                "`keyward kek {verb}` needs the right to {right} {mount}/keys/{key}{path}: {told}"
            )),
            Err(Fault::Gone(told)) => Setback::Denied(format!("there is no key {key} at {mount}: {told}")),
            Err(fault) => fault.setback(),
        };
        Err(setback.as_start_error(&self.settings.name))
    }
}

/// What the server still has; what an operator has retired is named so.
fn versions(info: &KeyInfo) -> Vec<KekVersion> {
    let min = info.min_decryption_version;
    let mut numbers: Vec<u32> = info.keys.keys().filter_map(|number| number.parse().ok()).collect();
    numbers.sort_unstable();
    let retired = |number| (number < min).then(|| format!("min_decryption_version is {min}: it opens nothing"));
    let version = |number| KekVersion { number, about: String::new(), objection: retired(number) };
    numbers.into_iter().map(version).collect()
}

async fn limited<T, E>(clock: &SharedClock, call: impl Future<Output = Result<T, E>>, late: E) -> Result<T, E> {
    tokio::select! {
        biased;
        result = call => result,
        () = clock.sleep_until(clock.mono().plus(LIMIT)) => Err(late),
    }
}

/// A person waits.
const LIMIT: Duration = Duration::from_secs(10);
const LATE: &str = "no answer within 10 s";
