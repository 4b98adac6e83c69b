//! `[kek.NAME]` with `type = "transit"` becomes the settings of a key in a Vault or OpenBao server.

use std::path::PathBuf;

use crate::kek;
use crate::kek::transit::{Address, Auth, TransitSettings};
use crate::keyring::Environment;
use crate::names::KekName;

use super::keks::strangers;
use super::problems::Found;
use super::raw::RawKek;
use super::sections::absolute;

pub(super) fn transit(
    path: &str,
    name: &KekName,
    raw: &RawKek,
    environment: Option<Environment>,
    found: &mut Found,
) -> Option<kek::Settings> {
    strangers(path, raw, "transit", found);
    let address = address(path, raw, environment, found);
    let ca_file = ca_file(path, raw, address.as_ref(), found);
    let key = found.need(&format!("{path}.key"), raw.key.clone(), "name the key in the transit engine");
    let auth = auth(path, raw, found);
    let settings = TransitSettings {
        name: name.clone(),
        address: address?,
        mount: raw.mount.clone().unwrap_or_else(|| "transit".to_owned()),
        key: key?,
        namespace: raw.namespace.clone(),
        ca_file,
        auth: auth?,
    };
    for (setting, problem) in settings.problems() {
        found.add(format!("{path}.{setting}"), problem, "write it as the server shows it, without / at its ends");
    }
    Some(kek::Settings::Transit(Box::new(settings)))
}

fn address(path: &str, raw: &RawKek, environment: Option<Environment>, found: &mut Found) -> Option<Address> {
    const HINT: &str = "write https://host:port; http is for development and a literal loopback address only";
    let text = found.need(&format!("{path}.address"), raw.address.as_deref(), HINT)?;
    let address: Address = found.check(&format!("{path}.address"), text.parse(), HINT)?;
    if environment == Some(Environment::Production) && !address.is_secure() {
        found.add(format!("{path}.address"), "is plain http in production", HINT);
    }
    Some(address)
}

fn ca_file(path: &str, raw: &RawKek, address: Option<&Address>, found: &mut Found) -> Option<PathBuf> {
    match (&raw.ca_file, address.map(Address::is_secure)) {
        (None, Some(true)) => {
            const HINT: &str =
                "name the PEM file of the authority that vouches for the server; the system's are not asked";
            found.add(format!("{path}.ca_file"), "is missing", HINT);
            None
        }
        (Some(_), Some(false)) => {
            found.add(format!("{path}.ca_file"), "has no use without https", "remove it, or write https");
            None
        }
        (file, _) => file.as_ref().map(|file| absolute(&format!("{path}.ca_file"), file, found)),
    }
}

fn auth(path: &str, raw: &RawKek, found: &mut Found) -> Option<Auth> {
    const HINT: &str = "write auth = \"token\", \"approle\" or \"kubernetes\"";
    let method = found.need(&format!("{path}.auth"), raw.auth.as_deref(), HINT)?;
    if !["token", "approle", "kubernetes"].contains(&method) {
        found.add(format!("{path}.auth"), "is not a way to log in", HINT);
        return None;
    }
    for (name, given, owner) in [
        ("token_file", raw.token_file.is_some(), "token"),
        ("role_id", raw.role_id.is_some(), "approle"),
        ("secret_id_file", raw.secret_id_file.is_some(), "approle"),
        ("role", raw.role.is_some(), "kubernetes"),
        ("jwt_file", raw.jwt_file.is_some(), "kubernetes"),
    ] {
        if given && owner != method {
            found.add(format!("{path}.{name}"), format!("belongs to auth = \"{owner}\""), "remove it");
        }
    }
    if raw.auth_mount.is_some() && method == "token" {
        found.add(format!("{path}.auth_mount"), "has no use with auth = \"token\"", "remove it");
    }
    let mount = raw.auth_mount.clone().unwrap_or_else(|| method.to_owned());
    match method {
        "approle" => {
            let role_id = found.need(&format!("{path}.role_id"), raw.role_id.clone(), "the RoleID of the role");
            let hint = "name a file with the SecretID, readable by the service alone";
            let secret_id_file = file(&format!("{path}.secret_id_file"), raw.secret_id_file.as_ref(), hint, found);
            Some(Auth::AppRole { mount, role_id: role_id?, secret_id_file: secret_id_file? })
        }
        "kubernetes" => {
            let role = found.need(&format!("{path}.role"), raw.role.clone(), "the name of the role at the server");
            let jwt = raw.jwt_file.as_deref().unwrap_or(SERVICE_ACCOUNT);
            let jwt_file = absolute(&format!("{path}.jwt_file"), jwt, found);
            Some(Auth::Kubernetes { mount, role: role?, jwt_file })
        }
        _ => {
            let hint = "name a file with the token, readable by the service alone";
            Some(Auth::Token { file: file(&format!("{path}.token_file"), raw.token_file.as_ref(), hint, found)? })
        }
    }
}

fn file(setting: &str, file: Option<&String>, hint: &str, found: &mut Found) -> Option<PathBuf> {
    let file = found.need(setting, file, hint)?;
    Some(absolute(setting, file, found))
}

/// Where the kubelet puts the token of a pod's service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::parse;

    const EXAMPLE: &str = include_str!("../../examples/keyward.toml");

    /// The example with its token replaced by these lines; paths of the problems.
    fn problems(environment: &str, lines: &str) -> Vec<String> {
        let from = EXAMPLE.find("[kek.primary]").unwrap();
        let to = EXAMPLE.find("[policy]").unwrap();
        let text = format!("{}[kek.primary]\ntype = \"transit\"\n{lines}\n{}", &EXAMPLE[..from], &EXAMPLE[to..]);
        let text = text.replace("environment = \"production\"", &format!("environment = \"{environment}\""));
        match parse(&text, Path::new("/usr/bin/keyward")) {
            Ok(_) => Vec::new(),
            Err(found) => found.0.into_iter().map(|problem| problem.path.replace("kek.primary.", "")).collect(),
        }
    }

    const GOOD: &str = "address = \"https://bao.example:8200\"\nkey = \"k\"\nca_file = \"/ca.pem\"\n";

    #[test]
    fn each_way_to_log_in_has_its_settings() {
        let token = "auth = \"token\"\ntoken_file = \"/t\"";
        let approle = "auth = \"approle\"\nrole_id = \"r\"\nsecret_id_file = \"/s\"\nauth_mount = \"a/b\"";
        let kubernetes = "auth = \"kubernetes\"\nrole = \"r\"\nnamespace = \"team\"\nmount = \"kms/transit\"";
        for good in [token, approle, kubernetes] {
            assert_eq!(problems("production", &format!("{GOOD}{good}")), [""; 0]);
        }
        assert_eq!(problems("production", &format!("{GOOD}auth = \"token\"\nrole = \"r\"")), ["role", "token_file"]);
        assert_eq!(problems("production", &format!("{GOOD}auth = \"ldap\"")), ["auth"]);
        assert_eq!(problems("production", &format!("{GOOD}auth = \"approle\"")), ["role_id", "secret_id_file"]);
    }

    #[test]
    fn all_problems_of_a_transit_key_are_reported_at_once() {
        let bad = "file = \"/x\"\npin_file = \"/p\"\nkey_version = 1\naddress = \"https://bao\"\nauth = \"token\"\n\
            token_file = \"t\"";
        let found = problems("production", bad);
        assert_eq!(found, ["file", "key_version", "pin_file", "ca_file", "key", "token_file"]);
        let bad = format!("{GOOD}mount = \"/transit/\"\nnamespace = \"../x\"\nauth = \"token\"\ntoken_file = \"/t\"");
        assert_eq!(problems("production", &bad), ["mount", "namespace"]);
    }

    #[test]
    fn plain_http_is_for_development_and_this_machine() {
        let rest = "\nkey = \"k\"\nauth = \"token\"\ntoken_file = \"/t\"";
        let local = format!("address = \"http://127.0.0.1:8200\"{rest}");
        let far = format!("address = \"http://bao.example:8200\"{rest}");
        assert_eq!(problems("production", &local), ["address"]);
        assert!(!problems("development", &local).contains(&"address".to_owned()));
        assert!(problems("development", &far).contains(&"address".to_owned()));
    }
}
