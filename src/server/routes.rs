//! Which route is meant? Paths and methods of the data and the control listeners, each with what it takes.

use http::Method;
use matchit::Router;

use crate::names::{KekName, KeyVersionId, KeyringName};
use crate::service::Surface;
use crate::telemetry::Verb;

use super::wire::{CustodyPath, KeyVerb, LookupPath};

/// A verb with what its path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Seal(KeyringName),
    Open,
    Rewrap,
    CreateKeyring,
    ListKeyrings,
    ShowKeyring(KeyringName),
    ShredPartition(KeyringName),
    RewrapPartitions(KeyringName),
    Rotate(KeyringName),
    Configure(KeyringName),
    Step(KeyVerb, KeyringName, KeyVersionId),
    Lookup(LookupPath),
    ReadWraps,
    ReadKeks,
    ReadFollowing,
    RewrapKeys,
    RetireKek(KekName),
    ReloadPolicy,
    ReadInventory,
    ReadAudit,
    LookUpSubject,
    Custody(CustodyPath, String),
}

/// What a path and a method lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Route(Route),
    /// The path is known, with these methods.
    WrongMethod(&'static str),
    /// A part of the path is not a name.
    BadName(Verb),
    Nothing,
}

/// The paths of one kind of listener.
pub(super) struct Routes(Router<Node>);

/// A path with its methods. `/v1/keyrings/{a}/seal` is two things: sealing under `a`, and the keyring `a/seal`; so are
/// `rotate` and `configure`.
#[derive(Debug, Clone, Copy)]
enum Node {
    Keyrings,
    Keyring,
    TenantKeyring,
    Seal,
    TenantSeal,
    Open,
    Rewrap,
    ReadOnlyKeyrings,
    Shred,
    TenantShred,
    RewrapPartitions,
    TenantRewrapPartitions,
    Rotate,
    TenantRotate,
    Configure,
    TenantConfigure,
    Step,
    TenantStep,
    Lookup(LookupPath),
    Wraps,
    Keks,
    Sidecars,
    RewrapKeys,
    RetireKek,
    ReloadPolicy,
    Inventory,
    Audit,
    AuditLookup,
    Custody(CustodyPath),
    /// A path that lists with GET and begins with POST.
    Both(CustodyPath, CustodyPath),
}

const DATA: &[(&str, Node)] = &[
    ("/v1/keyrings", Node::ReadOnlyKeyrings),
    ("/v1/keyrings/{a}", Node::Keyring),
    ("/v1/keyrings/{a}/{b}", Node::TenantKeyring),
    ("/v1/keyrings/{a}/seal", Node::Seal),
    ("/v1/keyrings/{a}/{b}/seal", Node::TenantSeal),
    ("/v1/open", Node::Open),
    ("/v1/rewrap", Node::Rewrap),
];

const CONTROL: &[(&str, Node)] = &[
    ("/v1/keyrings", Node::Keyrings),
    ("/v1/keyrings/{a}", Node::Keyring),
    ("/v1/keyrings/{a}/{b}", Node::TenantKeyring),
    ("/v1/keyrings/{a}/partitions/shred", Node::Shred),
    ("/v1/keyrings/{a}/{b}/partitions/shred", Node::TenantShred),
    ("/v1/keyrings/{a}/partitions/rewrap", Node::RewrapPartitions),
    ("/v1/keyrings/{a}/{b}/partitions/rewrap", Node::TenantRewrapPartitions),
    ("/v1/keyrings/{a}/rotate", Node::Rotate),
    ("/v1/keyrings/{a}/{b}/rotate", Node::TenantRotate),
    ("/v1/keyrings/{a}/configure", Node::Configure),
    ("/v1/keyrings/{a}/{b}/configure", Node::TenantConfigure),
    ("/v1/keyrings/{a}/versions/{id}/{verb}", Node::Step),
    ("/v1/keyrings/{a}/{b}/versions/{id}/{verb}", Node::TenantStep),
    ("/v1/lookup-keys", Node::Lookup(LookupPath::Create)),
    ("/v1/lookup-keys/rotate", Node::Lookup(LookupPath::Rotate)),
    ("/v1/lookup-keys/retire", Node::Lookup(LookupPath::Retire)),
    ("/v1/keys/wraps", Node::Wraps),
    ("/v1/keys/rewrap", Node::RewrapKeys),
    ("/v1/keks", Node::Keks),
    ("/v1/sidecars", Node::Sidecars),
    ("/v1/keks/{a}/retire", Node::RetireKek),
    ("/v1/policy/reload", Node::ReloadPolicy),
    ("/v1/inventory", Node::Inventory),
    ("/v1/audit/records", Node::Audit),
    ("/v1/audit/lookup", Node::AuditLookup),
    ("/v1/custody", Node::Custody(CustodyPath::Show)),
    ("/v1/custody/genesis", Node::Custody(CustodyPath::Found)),
    ("/v1/custody/genesis/draft", Node::Custody(CustodyPath::DraftGenesis)),
    ("/v1/roster", Node::Custody(CustodyPath::Roster)),
    ("/v1/ceremonies", Node::Both(CustodyPath::List, CustodyPath::Propose)),
    ("/v1/ceremonies/draft", Node::Custody(CustodyPath::Draft)),
    ("/v1/ceremonies/{a}", Node::Custody(CustodyPath::Look)),
    ("/v1/ceremonies/{a}/decisions", Node::Custody(CustodyPath::Decide)),
    ("/v1/ceremonies/{a}/execute", Node::Custody(CustodyPath::Execute)),
    ("/v1/ceremonies/{a}/minutes", Node::Custody(CustodyPath::Minutes)),
    ("/v1/custodians/{a}/revoke", Node::Custody(CustodyPath::Revoke)),
    ("/v1/rehearsal/advance", Node::Custody(CustodyPath::Advance)),
    ("/v1/locks", Node::Custody(CustodyPath::Locks)),
    ("/v1/locks/engage", Node::Custody(CustodyPath::Lock)),
    ("/v1/locks/release", Node::Custody(CustodyPath::Unlock)),
    ("/v1/grants", Node::Custody(CustodyPath::Grants)),
    ("/v1/grants/{a}/end", Node::Custody(CustodyPath::EndGrant)),
    ("/v1/grants/{a}/review", Node::Custody(CustodyPath::Review)),
];

impl Routes {
    /// Errors only if two paths of a table collide, which a test excludes.
    pub(super) fn new(surface: Surface) -> Result<Self, matchit::InsertError> {
        let table = match surface {
            Surface::DataSocket | Surface::DataTcp | Surface::DataTls => DATA,
            Surface::Control | Surface::ControlTls => CONTROL,
        };
        let mut router = Router::new();
        for (path, node) in table {
            router.insert(*path, *node)?;
        }
        Ok(Self(router))
    }

    pub(super) fn find(&self, method: &Method, path: &str) -> Found {
        let Ok(matched) = self.0.at(path) else { return Found::Nothing };
        let part = |name| matched.params.get(name).unwrap_or_default();
        let one = || part("a").to_owned();
        let two = || format!("{}/{}", part("a"), part("b"));
        match (matched.value, method) {
            (Node::ReadOnlyKeyrings | Node::Keyrings, &Method::GET) => Found::Route(Route::ListKeyrings),
            (Node::Keyrings, &Method::POST) => Found::Route(Route::CreateKeyring),
            (Node::Keyring, &Method::GET) => named(&one(), Verb::KeyringShow, Route::ShowKeyring),
            (Node::TenantKeyring, &Method::GET) => named(&two(), Verb::KeyringShow, Route::ShowKeyring),
            (Node::Seal, &Method::POST) => named(&one(), Verb::Seal, Route::Seal),
            (Node::Seal, &Method::GET) => named(&(one() + "/seal"), Verb::KeyringShow, Route::ShowKeyring),
            (Node::TenantSeal, &Method::POST) => named(&two(), Verb::Seal, Route::Seal),
            (Node::Open, &Method::POST) => Found::Route(Route::Open),
            (Node::Rewrap, &Method::POST) => Found::Route(Route::Rewrap),
            (Node::Shred, &Method::POST) => named(&one(), Verb::PartitionShred, Route::ShredPartition),
            (Node::TenantShred, &Method::POST) => named(&two(), Verb::PartitionShred, Route::ShredPartition),
            (Node::RewrapPartitions, &Method::POST) => named(&one(), Verb::PartitionRewrap, Route::RewrapPartitions),
            (Node::TenantRewrapPartitions, &Method::POST) => {
                named(&two(), Verb::PartitionRewrap, Route::RewrapPartitions)
            }
            (Node::Rotate, &Method::POST) => named(&one(), Verb::KeyringRotate, Route::Rotate),
            (Node::Rotate, &Method::GET) => named(&(one() + "/rotate"), Verb::KeyringShow, Route::ShowKeyring),
            (Node::TenantRotate, &Method::POST) => named(&two(), Verb::KeyringRotate, Route::Rotate),
            (Node::Configure, &Method::POST) => named(&one(), Verb::KeyringConfigure, Route::Configure),
            (Node::Configure, &Method::GET) => named(&(one() + "/configure"), Verb::KeyringShow, Route::ShowKeyring),
            (Node::TenantConfigure, &Method::POST) => named(&two(), Verb::KeyringConfigure, Route::Configure),
            (Node::Step | Node::TenantStep, _) => {
                let keyring = if matches!(matched.value, Node::Step) { one() } else { two() };
                step(method, &keyring, part("id"), part("verb"))
            }
            (Node::Lookup(path), &Method::POST) => Found::Route(Route::Lookup(*path)),
            (Node::Wraps, &Method::GET) => Found::Route(Route::ReadWraps),
            (Node::Keks, &Method::GET) => Found::Route(Route::ReadKeks),
            (Node::Sidecars, &Method::GET) => Found::Route(Route::ReadFollowing),
            (Node::RewrapKeys, &Method::POST) => Found::Route(Route::RewrapKeys),
            (Node::RetireKek, &Method::POST) => {
                part("a").parse().map_or(Found::BadName(Verb::KekRetire), |kek| Found::Route(Route::RetireKek(kek)))
            }
            (Node::ReloadPolicy, &Method::POST) => Found::Route(Route::ReloadPolicy),
            (Node::Inventory, &Method::GET) => Found::Route(Route::ReadInventory),
            (Node::AuditLookup, &Method::POST) => Found::Route(Route::LookUpSubject),
            (Node::Audit, &Method::GET) => Found::Route(Route::ReadAudit),
            (Node::Both(path, _), &Method::GET) | (Node::Both(_, path), &Method::POST) => {
                Found::Route(Route::Custody(*path, String::new()))
            }
            (Node::Custody(path), _) if path.method() == method.as_str() => Found::Route(Route::Custody(*path, one())),
            (node, _) => Found::WrongMethod(node.methods()),
        }
    }
}

impl Node {
    const fn methods(self) -> &'static str {
        match self {
            Self::Keyrings | Self::Seal | Self::Rotate | Self::Configure | Self::Both(..) => "GET, POST",
            Self::Custody(path) => path.method(),
            Self::Keyring
            | Self::TenantKeyring
            | Self::ReadOnlyKeyrings
            | Self::Wraps
            | Self::Keks
            | Self::Sidecars
            | Self::Inventory
            | Self::Audit => "GET",
            Self::TenantSeal
            | Self::Open
            | Self::Rewrap
            | Self::Shred
            | Self::TenantShred
            | Self::RewrapPartitions
            | Self::TenantRewrapPartitions
            | Self::TenantRotate
            | Self::TenantConfigure
            | Self::Step
            | Self::TenantStep
            | Self::Lookup(_)
            | Self::RewrapKeys
            | Self::ReloadPolicy
            | Self::AuditLookup
            | Self::RetireKek => "POST",
        }
    }
}

impl Route {
    /// The verb that it is counted as.
    pub(super) const fn verb(&self) -> Verb {
        match self {
            Self::Seal(_) => Verb::Seal,
            Self::Open => Verb::Open,
            Self::Rewrap => Verb::Rewrap,
            Self::CreateKeyring => Verb::KeyringCreate,
            Self::ListKeyrings => Verb::KeyringList,
            Self::ShowKeyring(_) => Verb::KeyringShow,
            Self::ShredPartition(_) => Verb::PartitionShred,
            Self::RewrapPartitions(_) => Verb::PartitionRewrap,
            Self::Rotate(_) => Verb::KeyringRotate,
            Self::Configure(_) => Verb::KeyringConfigure,
            Self::Step(verb, ..) => counted(*verb),
            Self::Lookup(LookupPath::Create) => Verb::LookupCreate,
            Self::Lookup(LookupPath::Rotate) => Verb::LookupRotate,
            Self::Lookup(LookupPath::Retire) => Verb::LookupRetire,
            Self::ReadWraps => Verb::KeysWraps,
            Self::RewrapKeys => Verb::KeysRewrap,
            Self::RetireKek(_) => Verb::KekRetire,
            Self::ReloadPolicy => Verb::PolicyReload,
            Self::ReadInventory | Self::ReadKeks | Self::ReadFollowing => Verb::InventoryRead,
            Self::ReadAudit => Verb::AuditRead,
            Self::LookUpSubject => Verb::AuditLookup,
            Self::Custody(path, _) => path.verb(),
        }
    }
}

const fn counted(verb: KeyVerb) -> Verb {
    match verb {
        KeyVerb::Suspend => Verb::KeySuspend,
        KeyVerb::Resume => Verb::KeyResume,
        KeyVerb::Deactivate => Verb::KeyDeactivate,
        KeyVerb::Compromise => Verb::KeyCompromise,
        KeyVerb::ScheduleDestroy => Verb::KeyDestroy,
        KeyVerb::CancelDestroy => Verb::KeyDestroyCancel,
        KeyVerb::FinishDestroy => Verb::KeyDestroyFinish,
    }
}

/// A path below a key version: a verb that is none leads nowhere.
fn step(method: &Method, keyring: &str, version: &str, verb: &str) -> Found {
    let Some(verb) = KeyVerb::of(verb) else { return Found::Nothing };
    if method != Method::POST {
        return Found::WrongMethod("POST");
    }
    match (keyring.parse(), version.parse()) {
        (Ok(keyring), Ok(version)) => Found::Route(Route::Step(verb, keyring, version)),
        _ => Found::BadName(counted(verb)),
    }
}

fn named(text: &str, verb: Verb, route: impl Fn(KeyringName) -> Route) -> Found {
    text.parse().map_or(Found::BadName(verb), |name| Found::Route(route(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_leads_where_the_interface_says() {
        let data = Routes::new(Surface::DataSocket).unwrap();
        let name = |text: &str| text.parse::<KeyringName>().unwrap();
        let found = |method: Method, path| data.find(&method, path);
        assert_eq!(found(Method::POST, "/v1/keyrings/p/seal"), Found::Route(Route::Seal(name("default/p"))));
        assert_eq!(found(Method::POST, "/v1/keyrings/acme/p/seal"), Found::Route(Route::Seal(name("acme/p"))));
        assert_eq!(found(Method::POST, "/v1/keyrings/acme/seal/seal"), Found::Route(Route::Seal(name("acme/seal"))));
        assert_eq!(found(Method::GET, "/v1/keyrings/acme/seal"), Found::Route(Route::ShowKeyring(name("acme/seal"))));
        assert_eq!(found(Method::GET, "/v1/keyrings/seal"), Found::Route(Route::ShowKeyring(name("seal"))));
        assert_eq!(found(Method::GET, "/v1/keyrings"), Found::Route(Route::ListKeyrings));
        assert_eq!(found(Method::POST, "/v1/open"), Found::Route(Route::Open));
        assert_eq!(found(Method::POST, "/v1/rewrap"), Found::Route(Route::Rewrap));
        assert_eq!(found(Method::POST, "/v1/keyrings/P/seal"), Found::BadName(Verb::Seal));
        assert_eq!(found(Method::GET, "/v1/keyrings/%2e%2e"), Found::BadName(Verb::KeyringShow));
        for nothing in
            ["/", "", "*", "/v1", "/v1/open/", "/v2/open", "/v1/keyrings/", "/v1/audit/records", "/v1/a/b/c/d"]
        {
            assert_eq!(found(Method::POST, nothing), Found::Nothing, "{nothing}");
        }
    }

    #[test]
    fn no_data_verb_is_reached_on_the_control_listener_nor_the_reverse() {
        let (data, control) = (Routes::new(Surface::DataTcp).unwrap(), Routes::new(Surface::Control).unwrap());
        assert_eq!(data.find(&Method::POST, "/v1/keyrings"), Found::WrongMethod("GET"));
        assert_eq!(control.find(&Method::POST, "/v1/keyrings"), Found::Route(Route::CreateKeyring));
        assert_eq!(control.find(&Method::GET, "/v1/audit/records"), Found::Route(Route::ReadAudit));
        let shred = |keyring: &str| Found::Route(Route::ShredPartition(keyring.parse().unwrap()));
        assert_eq!(control.find(&Method::POST, "/v1/keyrings/p/partitions/shred"), shred("p"));
        assert_eq!(control.find(&Method::POST, "/v1/keyrings/acme/p/partitions/shred"), shred("acme/p"));
        assert_eq!(
            control.find(&Method::POST, "/v1/keyrings/acme/partitions/partitions/shred"),
            shred("acme/partitions")
        );
        assert_eq!(data.find(&Method::POST, "/v1/keyrings/p/partitions/shred"), Found::Nothing);
        assert_eq!(control.find(&Method::POST, "/v1/open"), Found::Nothing);
        assert_eq!(control.find(&Method::POST, "/v1/rewrap"), Found::Nothing);
        assert_eq!(control.find(&Method::POST, "/v1/keyrings/p/seal"), Found::WrongMethod("GET"));
    }

    #[test]
    fn every_verb_of_a_keyring_and_of_a_key_version_has_its_path() {
        let control = Routes::new(Surface::Control).unwrap();
        let name = |text: &str| text.parse::<KeyringName>().unwrap();
        let post = |path: &str| control.find(&Method::POST, path);
        let id = KeyVersionId([0xab; 8]);
        for verb in KeyVerb::ALL {
            for (path, keyring) in [("p", "p"), ("acme/p", "acme/p"), ("acme/versions", "acme/versions")] {
                let path = format!("/v1/keyrings/{path}/versions/{id}/{}", verb.path());
                assert_eq!(post(&path), Found::Route(Route::Step(*verb, name(keyring), id)), "{path}");
                assert_eq!(control.find(&Method::GET, &path), Found::WrongMethod("POST"));
            }
        }
        assert_eq!(post("/v1/keyrings/p/versions/abc/suspend"), Found::BadName(Verb::KeySuspend));
        assert_eq!(post(&format!("/v1/keyrings/p/versions/{id}/forget")), Found::Nothing);
        for (path, route) in [
            ("/v1/keyrings/p/rotate", Route::Rotate(name("p"))),
            ("/v1/keyrings/acme/rotate/rotate", Route::Rotate(name("acme/rotate"))),
            ("/v1/keyrings/p/configure", Route::Configure(name("p"))),
            ("/v1/keyrings/acme/p/configure", Route::Configure(name("acme/p"))),
        ] {
            assert_eq!(post(path), Found::Route(route), "{path}");
        }
        let shown = control.find(&Method::GET, "/v1/keyrings/acme/rotate");
        assert_eq!(shown, Found::Route(Route::ShowKeyring(name("acme/rotate"))));
        assert_eq!(control.find(&Method::GET, "/v1/inventory"), Found::Route(Route::ReadInventory));
        assert_eq!(post("/v1/policy/reload"), Found::Route(Route::ReloadPolicy));
        let data = Routes::new(Surface::DataSocket).unwrap();
        assert_eq!(data.find(&Method::POST, "/v1/policy/reload"), Found::Nothing);
        assert_eq!(data.find(&Method::POST, "/v1/keyrings/p/rotate"), Found::WrongMethod("GET"));
    }

    #[test]
    fn other_methods_hear_which_ones_there_are() {
        let data = Routes::new(Surface::DataSocket).unwrap();
        for method in [Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::GET] {
            assert_eq!(data.find(&method, "/v1/open"), Found::WrongMethod("POST"));
        }
        assert_eq!(data.find(&Method::PUT, "/v1/keyrings/p/seal"), Found::WrongMethod("GET, POST"));
    }
}
