//! What is true of this token? Holds a profile against it, or drafts one; or only looks at a library.
//! This module never takes a stored wrap, never keeps what it made in the token, and never tries a PIN that was refused.
//!
//! Everything runs in a worker of its own. What is wrapped are random bytes under keys that go with their session; only
//! where the operator names a key-encryption key is that one used, in the profile's own way and no other.

mod candidates;
mod compose;
mod draft;
mod gauge;
mod hold;
mod names;
mod rates;
mod report;
mod trial;

use std::path::PathBuf;

use crate::clock::SharedClock;
use crate::durable::Disk;

use super::pkcs11::{Fault, KeyRole, Module, PinSource, Pkcs11Settings, Trouble, Workbench};
use super::profile::{AttributeName, Profile, ProfileChoice, User, WrapMethod};
use super::{KekError, StartError};

use candidates::Group;
use draft::Draft;
use hold::Verdict;
use rates::Pace;
use trial::{On, Outcome, Stage, Tried};

pub use gauge::Gauge;
pub use report::{Answer, Finding, Library, Mechanism, Random, Rate, Report, SCHEMA, Sessions, Slot, Token, Trial};

/// What to probe.
#[derive(Debug, Clone)]
pub struct Target {
    /// The profile to hold against the token; None drafts one.
    pub profile: Option<ProfileChoice>,
    /// The vendor's library; None takes the profile's.
    pub module: Option<PathBuf>,
    /// C_Initialize's pReserved instead of the profile's.
    pub reserved: Option<String>,
    /// The library's environment.
    pub env: Vec<(String, String)>,
    /// The token; None only looks.
    pub token: Option<TokenTarget>,
    /// The program that runs the worker: keyward itself.
    pub worker: PathBuf,
    /// An existing directory for the login latch.
    pub state_dir: PathBuf,
}

/// Which token, and how to get in.
#[derive(Debug, Clone)]
pub struct TokenTarget {
    /// Its label.
    pub label: String,
    /// Its serial number, where several tokens have the label.
    pub serial: Option<String>,
    /// The file with its PIN; None where the profile knows no login.
    pub pin_file: Option<PathBuf>,
    /// A key-encryption key to use instead of temporary keys.
    pub key_label: Option<String>,
    /// The one method to try.
    pub method: Option<String>,
    /// Whether to measure how fast a profile's methods are.
    pub rates: bool,
}

/// Why nothing was probed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Asked(String),
    /// The library does not load, or the token is not there.
    #[error("{0}")]
    Away(String),
    /// The token said no.
    #[error("the token refused: {0}")]
    Refused(String),
}

/// Probes. `progress` hears what is being done, since a token may take minutes.
pub async fn probe(
    target: Target,
    clock: SharedClock,
    disk: Disk,
    progress: &dyn Fn(&str),
) -> Result<Report, ProbeError> {
    progress("looking at the library");
    let (profile, module, mut report) = look(&target, &clock).await?;
    drop(module);
    if let Some(wanted) = &target.token {
        let listed = mechanisms_of(&report, wanted);
        let bench = Workbench::prepare(settings(&target, wanted, &profile)?, profile, clock, disk);
        let mut bench = bench.map_err(|error| refusal(&error))?;
        progress("logging in");
        let facts = bench.open().await.map_err(|error| refusal(&error))?.unwrap_or_default();
        let session = Session { target: &target, wanted, listed, progress };
        let token = session.run(&mut bench, facts.serial, &report).await;
        bench.leave().await;
        report.token = Some(token?);
    }
    Ok(report)
}

/// The library and its slots, by the profile or, without one, with the flags that it accepts.
async fn look(target: &Target, clock: &SharedClock) -> Result<(Profile, Module, Report), ProbeError> {
    let mut os_locking = true;
    loop {
        let profile = profile_of(target, os_locking)?;
        let (named, reserved, env) = (target.module.as_deref(), target.reserved.as_deref(), target.env.clone());
        let module = Module::prepare(named, reserved, &profile, target.worker.clone(), env, clock.clone());
        let module = module.map_err(ProbeError::Asked)?;
        match module.look(profile.module.os_locking).await {
            Ok(seen) => {
                let report = compose::report(clock, &module, profile.module.os_locking, seen);
                return Ok((profile, module, report));
            }
            Err(Trouble::Fault(Fault::Code { code: CANT_LOCK, .. })) if target.profile.is_none() && os_locking => {
                os_locking = false;
            }
            Err(trouble) => return Err(away(trouble)),
        }
    }
}

fn profile_of(target: &Target, os_locking: bool) -> Result<Profile, ProbeError> {
    let asked = |error: super::profile::ProfileError| ProbeError::Asked(error.to_string());
    match (&target.profile, &target.module) {
        (Some(choice), _) => Profile::load(choice).map_err(asked),
        (None, None) => {
            Err(ProbeError::Asked("name the vendor's library by --module, or a profile that knows it".into()))
        }
        (None, Some(module)) => {
            let env = target.env.iter().map(|(name, _)| name.clone()).collect();
            let table = candidates::all(&[]).into_iter().flat_map(|group| group.tables).next();
            let table = table.ok_or_else(|| ProbeError::Asked("there is nothing to try".into()))?;
            let module = module.display().to_string();
            let reserved = target.reserved.clone().unwrap_or_default();
            Profile::parse(&Draft::blank(&module, os_locking, &reserved, env, table).text()).map_err(asked)
        }
    }
}

fn settings(target: &Target, wanted: &TokenTarget, profile: &Profile) -> Result<Pkcs11Settings, ProbeError> {
    let asked = |what: &str| Err(ProbeError::Asked(what.into()));
    match (profile.login.user, &wanted.pin_file) {
        (User::User, None) => return asked("the token wants a PIN: name its file by --pin-file"),
        (User::None, Some(_)) => return asked("this product knows no login: leave --pin-file out"),
        _ => {}
    }
    let chosen = match (&wanted.method, &wanted.key_label) {
        (None, None) => profile.wrap.first().ok_or_else(String::new),
        (method, _) => profile.chosen(method.as_deref()),
    };
    let method = chosen.map_err(ProbeError::Asked)?.full_name();
    Ok(Pkcs11Settings {
        name: "probe".parse().map_err(|_| ProbeError::Asked("probe is no name".into()))?,
        profile: ProfileChoice::Shipped(profile.id.clone()),
        module: target.module.clone(),
        reserved: target.reserved.clone(),
        token_label: wanted.label.clone(),
        token_serial: wanted.serial.clone(),
        key_label: wanted.key_label.clone().unwrap_or_else(|| "keyward-probe".into()),
        key_version: Some(1),
        method: Some(method),
        pool: None,
        pin: wanted.pin_file.clone().map(PinSource::File),
        certificate: None,
        store_key_pinned: true,
        worker: target.worker.clone(),
        state_dir: target.state_dir.clone(),
        env: target.env.clone(),
    })
}

fn mechanisms_of(report: &Report, wanted: &TokenTarget) -> Vec<Mechanism> {
    let serial = |slot: &Slot| wanted.serial.as_ref().is_none_or(|serial| *serial == slot.serial);
    let slot = report.slots.iter().find(|slot| slot.label == wanted.label && serial(slot));
    slot.map(|slot| slot.mechanisms.clone()).unwrap_or_default()
}

/// One token, opened.
struct Session<'a> {
    target: &'a Target,
    wanted: &'a TokenTarget,
    listed: Vec<Mechanism>,
    progress: &'a dyn Fn(&str),
}

impl Session<'_> {
    async fn run(&self, bench: &mut Workbench, serial: String, seen: &Report) -> Result<Token, ProbeError> {
        (self.progress)("counting sessions");
        let sessions = count_sessions(bench).await.map_err(away)?;
        let random = draw(bench).await;
        let mut token = Token {
            label: self.wanted.label.clone(),
            serial,
            profile: None,
            holds: None,
            sessions,
            random,
            reported: Vec::new(),
            trials: Vec::new(),
            findings: Vec::new(),
            notes: Vec::new(),
            draft: None,
        };
        let tried =
            if self.target.profile.is_some() { self.hold(bench, &mut token).await } else { self.search(bench).await? };
        token.reported = compose::reported(&tried);
        if self.target.profile.is_none() {
            compose::draft(&mut token, &tried, bench.profile(), seen, self.wanted.key_label.is_some());
        }
        let errors = self.target.profile.as_ref().map(|_| &bench.profile().errors);
        token.trials = tried.iter().map(|tried| compose::trial(tried, errors)).collect();
        Ok(token)
    }

    fn on(&self, unmodifiable: bool) -> On<'_> {
        self.wanted.key_label.as_deref().map_or(On::Temporary { unmodifiable }, On::Named)
    }

    /// Every table of the profile, or the one that was asked for; on a named key no other than the configuration's.
    async fn hold(&self, bench: &mut Workbench, token: &mut Token) -> Vec<Tried> {
        let profile = bench.profile().clone();
        let named = self.wanted.key_label.is_some();
        let tables: Vec<WrapMethod> = match (named, &self.wanted.method) {
            (false, None) => profile.wrap.clone(),
            (_, method) => profile.chosen(method.as_deref()).into_iter().cloned().collect(),
        };
        let settable = profile.attributes.settable.contains(&AttributeName::Modifiable);
        let mut verdict = Verdict::default();
        verdict.sessions(&profile, &token.sessions);
        verdict.random(&token.random);
        let mut all = Vec::new();
        for table in &tables {
            (self.progress)(&format!("trying {}", table.full_name()));
            verdict.listed(table, &self.listed);
            let pace = if self.wanted.rates { Pace::Full } else { Pace::None };
            let tried = trial::run(bench, table, &self.on(settable), pace).await;
            let instead = match &tried.outcome {
                Outcome::Fails(Stage::Wrap | Stage::Unwrap, _) if !named => self.instead(bench, table).await,
                _ => None,
            };
            verdict.table(&profile, &tried, named, instead.as_ref());
            all.push(tried);
        }
        let works = all.iter().any(|tried| matches!(tried.outcome, Outcome::Works));
        token.holds = if verdict.findings.is_empty() { works.then_some(true) } else { Some(false) };
        token.profile = Some(profile.id);
        (token.findings, token.notes) = (verdict.findings, verdict.notes);
        all
    }

    /// What works where the profile does not.
    async fn instead(&self, bench: &mut Workbench, table: &WrapMethod) -> Option<WrapMethod> {
        for sibling in hold::siblings(table) {
            (self.progress)(&format!("trying {} instead", sibling.full_name()));
            let tried = trial::run(bench, &sibling, &On::Temporary { unmodifiable: false }, Pace::None).await;
            if matches!(tried.outcome, Outcome::Works) {
                return Some(sibling);
            }
        }
        None
    }

    /// Everything that is worth trying.
    async fn search(&self, bench: &mut Workbench) -> Result<Vec<Tried>, ProbeError> {
        let groups = match &self.wanted.key_label {
            None => candidates::all(&self.listed),
            Some(label) => candidates::on_a_named_key(self.role_of(bench, label).await?),
        };
        let mut all = Vec::new();
        for group in groups {
            self.first_that_works(bench, &group, &mut all).await;
        }
        Ok(all)
    }

    async fn first_that_works(&self, bench: &mut Workbench, group: &Group, all: &mut Vec<Tried>) {
        for table in &group.tables {
            (self.progress)(&format!("trying {} by {}", table.full_name(), names::hexadecimal(table.mechanism())));
            let tried = trial::run(bench, table, &self.on(true), Pace::Glance).await;
            let goes_on = group.goes_on(&tried);
            all.push(tried);
            if !goes_on {
                break;
            }
        }
    }

    async fn role_of(&self, bench: &mut Workbench, label: &str) -> Result<KeyRole, ProbeError> {
        let table = bench.profile().wrap.first().cloned();
        if let Some(table) = table {
            bench.aim(&table, label);
        }
        for role in [KeyRole::Cipher, KeyRole::Private] {
            match bench.find(role).await {
                Ok(_) => return Ok(role),
                Err(Trouble::Fault(Fault::NoKey(_))) => {}
                Err(trouble) => return Err(away(trouble)),
            }
        }
        Err(ProbeError::Asked(format!("no secret key and no private key in the token has the label {label}")))
    }
}

async fn count_sessions(bench: &mut Workbench) -> Result<Sessions, Trouble> {
    let (login, max) = (bench.profile().login.user == User::User, bench.profile().session.max);
    let most =
        u16::try_from(max).ok().filter(|max| (1..=MANY_SESSIONS).contains(max)).map_or(ENOUGH_SESSIONS, |max| max + 1);
    let (opened, code) = bench.sessions(most).await?;
    let refused = (code != 0).then(|| names::code("C_OpenSession", code));
    Ok(Sessions { open: u32::from(opened) + u32::from(login), refused })
}

async fn draw(bench: &mut Workbench) -> Vec<Random> {
    let mut drawn = Vec::new();
    for bytes in LENGTHS {
        let refused = match bench.random(bytes).await {
            Ok(random) if random.expose().iter().all(|byte| *byte == 0) && bytes > 1 => {
                Some(names::plain("it gave zeros".into()))
            }
            Ok(_) => None,
            Err(trouble) => Some(names::answer(&trouble)),
        };
        drawn.push(Random { bytes, refused });
    }
    drawn
}

fn away(trouble: Trouble) -> ProbeError {
    ProbeError::Away(names::answer(&trouble).text)
}

/// The same in the words of a command line.
fn refusal(error: &StartError) -> ProbeError {
    match error {
        StartError::Setting { problem, .. } => ProbeError::Asked(problem.clone()),
        StartError::Profile { problem, .. } => ProbeError::Asked(problem.to_string()),
        StartError::Pin { problem, .. } => ProbeError::Asked(format!("the PIN cannot be used: {problem}")),
        StartError::Unfit { problem, .. } => ProbeError::Away(problem.clone()),
        StartError::Kek(KekError::Denied { detail, .. }) => ProbeError::Refused(detail.clone()),
        StartError::Kek(KekError::Unreachable { detail, .. }) => ProbeError::Away(detail.clone()),
        other => ProbeError::Away(other.to_string()),
    }
}

/// CKR_CANT_LOCK.
const CANT_LOCK: u64 = 0x0A;
/// Where no profile says how many.
const ENOUGH_SESSIONS: u16 = 64;
/// More are not opened to see a limit.
const MANY_SESSIONS: u16 = 2048;
/// An IV has 12 bytes, a key 32; tokens that draw in blocks show at the ends.
const LENGTHS: [u16; 4] = [1, 12, 32, 512];
