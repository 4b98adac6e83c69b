//! How does keyward get a token, and how long is it good for? Token file, AppRole, Kubernetes; leases and their renewal.
//! This module never keeps a secret longer than one login: files are read again each time, so that a new one counts.

use std::path::Path;
use std::time::Duration;

use vaultrs::api::AuthInfo;
use vaultrs::auth::{approle, kubernetes};
use zeroize::Zeroizing;

use crate::clock::Mono;
use crate::kek::private_file;
use crate::secret::SecretBytes;

use super::client::{Caller, Connections};
use super::fault::{Fault, Setback};
use super::settings::Auth;
use crate::kek::breaker::part_of;

/// A token and what is known of its life.
pub(super) struct Login {
    pub(super) caller: Caller,
    pub(super) lease: Lease,
}

/// How long a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    /// None for a token that never expires, or whose life it does not tell.
    pub(super) duration: Option<Duration>,
    pub(super) renewable: bool,
    /// When to renew it, or to log in again.
    pub(super) renew_at: Option<Mono>,
}

impl Lease {
    fn new(seconds: u64, renewable: bool, now: Mono) -> Self {
        let duration = (seconds > 0).then(|| Duration::from_secs(seconds));
        Self { duration, renewable, renew_at: duration.map(|duration| now.plus(renewal(duration))) }
    }

    const fn unknown() -> Self {
        Self { duration: None, renewable: false, renew_at: None }
    }

    /// For the record of the admission.
    pub(super) fn lines(&self, auth: &Auth) -> Vec<String> {
        let expiry = match self.duration {
            Some(duration) => format!("token_lease_s={}", duration.as_secs()),
            None => "token_lease_s=none".to_owned(),
        };
        let mut lines = vec![format!("auth={}", auth.name()), expiry, format!("token_renewable={}", self.renewable)];
        if matches!(auth, Auth::Token { .. }) && self.duration.is_some() && !self.renewable {
            lines.push("token_ends_without_a_new_file=true".to_owned());
        }
        lines
    }
}

/// Whether the files can be read now; a start without them is refused.
pub(super) fn check_files(auth: &Auth) -> Result<(), String> {
    secret(auth).map(|_| ())
}

/// Logs in. Blocks a moment on a small file.
pub(super) async fn login(connections: &Connections, auth: &Auth, now: Mono) -> Result<Login, Setback> {
    let secret = secret(auth).map_err(Setback::Denied)?;
    let caller = connections.anonymous();
    let answer = match auth {
        Auth::Token { .. } => return adopt(connections, &secret, now).await,
        Auth::AppRole { mount, role_id, .. } => approle::login(caller.client(), mount, role_id, &secret).await,
        Auth::Kubernetes { mount, role, .. } => kubernetes::login(caller.client(), mount, role, &secret).await,
    };
    let info = answer.map_err(|error| refused_login(auth, Fault::of_login(error)))?;
    let (caller, lease) = taken(connections, info, now)?;
    Ok(Login { caller, lease })
}

/// Lengthens the life of a token.
pub(super) async fn renew(caller: &Caller, now: Mono) -> Result<Lease, Fault> {
    let info = vaultrs::token::renew_self(caller.client(), None).await.map_err(Fault::of_login)?;
    let lease = Lease::new(info.lease_duration, info.renewable, now);
    let _wiped = Zeroizing::new(info.client_token);
    Ok(lease)
}

/// Ends the life of a token that another one has replaced; if that fails, it ends by itself.
pub(super) async fn revoke(caller: &Caller) {
    let _it_expires = vaultrs::token::revoke_self(caller.client()).await;
}

/// Whether the file holds another token than this caller's.
pub(super) fn is_news(auth: &Auth, caller: &Caller) -> bool {
    secret(auth).is_ok_and(|secret| *secret != *caller.token())
}

/// A token that somebody else obtained. Its life is asked for; a policy that forbids the question is no obstacle.
async fn adopt(connections: &Connections, token: &str, now: Mono) -> Result<Login, Setback> {
    let caller = connections.with_token(token).map_err(Setback::Denied)?;
    match vaultrs::token::lookup_self(caller.client()).await {
        Ok(info) => {
            let _wiped = Zeroizing::new(info.id);
            Ok(Login { caller, lease: Lease::new(info.ttl, info.renewable.unwrap_or(false), now) })
        }
        Err(error) => match Fault::of_login(error) {
            Fault::Forbidden(_) => Ok(Login { caller, lease: Lease::unknown() }),
            fault => Err(fault.setback()),
        },
    }
}

fn taken(connections: &Connections, info: AuthInfo, now: Mono) -> Result<(Caller, Lease), Setback> {
    let token = Zeroizing::new(info.client_token);
    let caller = connections.with_token(&token).map_err(Setback::Away)?;
    Ok((caller, Lease::new(info.lease_duration, info.renewable, now)))
}

fn refused_login(auth: &Auth, fault: Fault) -> Setback {
    match fault.setback() {
        Setback::Denied(detail) => Setback::Denied(format!("the {} login is refused: {detail}", auth.name())),
        other => other,
    }
}

/// What the file of a method holds, without the line's end.
fn secret(auth: &Auth) -> Result<Zeroizing<String>, String> {
    let read = match auth {
        Auth::Token { file } | Auth::AppRole { secret_id_file: file, .. } => read_private(file),
        // The kubelet makes it readable for every user of the pod.
        Auth::Kubernetes { jwt_file, .. } => {
            private_file::read_projected(jwt_file, MAX_SECRET).map_err(|e| e.to_string())
        }
    };
    let bytes = read?;
    let text = std::str::from_utf8(bytes.expose()).map_err(|_| "the file of the login is not text".to_owned())?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the file of the login is empty or holds more than one word".into());
    }
    Ok(Zeroizing::new(text.to_owned()))
}

fn read_private(file: &Path) -> Result<SecretBytes, String> {
    private_file::read(file, MAX_SECRET).map(|(bytes, _)| bytes).map_err(|error| error.to_string())
}

/// Two thirds of the lease, or up to a tenth of it earlier, so that many sidecars do not renew at once.
fn renewal(lease: Duration) -> Duration {
    (lease * 2 / 3 - part_of(lease / 10)).max(Duration::from_secs(1))
}

/// JWTs of a service account have one to two thousand bytes.
const MAX_SECRET: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_renewed_at_two_thirds_or_a_little_earlier_and_an_endless_one_never() {
        let now = Mono(5_000_000_000);
        for _ in 0..100 {
            let at = Lease::new(3600, true, now).renew_at.unwrap().since(now);
            assert!((Duration::from_secs(2040)..=Duration::from_secs(2400)).contains(&at), "{at:?}");
        }
        assert_eq!(Lease::new(0, false, now).renew_at, None);
    }

    #[test]
    fn a_token_that_ends_for_good_is_reported() {
        let auth = Auth::Token { file: "/etc/keyward/token".into() };
        let ends = "token_ends_without_a_new_file=true".to_owned();
        assert!(Lease::new(3600, false, Mono(0)).lines(&auth).contains(&ends));
        assert!(!Lease::new(3600, true, Mono(0)).lines(&auth).contains(&ends));
        assert!(!Lease::new(0, false, Mono(0)).lines(&auth).contains(&ends));
    }
}
