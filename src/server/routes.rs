//! Which route is meant? Paths and methods of the data and the control listeners, each with what it takes.

use http::Method;
use matchit::Router;

use crate::names::KeyringName;
use crate::service::Surface;
use crate::telemetry::Verb;

/// A verb with what its path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Seal(KeyringName),
    Open,
    CreateKeyring,
    ListKeyrings,
    ShowKeyring(KeyringName),
    ShredPartition(KeyringName),
    RewrapPartitions(KeyringName),
    ReadAudit,
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

/// A path with its methods. `/v1/keyrings/{a}/seal` is two things: sealing under `a`, and the keyring `a/seal`.
#[derive(Debug, Clone, Copy)]
enum Node {
    Keyrings,
    Keyring,
    TenantKeyring,
    Seal,
    TenantSeal,
    Open,
    ReadOnlyKeyrings,
    Shred,
    TenantShred,
    RewrapPartitions,
    TenantRewrapPartitions,
    Audit,
}

const DATA: &[(&str, Node)] = &[
    ("/v1/keyrings", Node::ReadOnlyKeyrings),
    ("/v1/keyrings/{a}", Node::Keyring),
    ("/v1/keyrings/{a}/{b}", Node::TenantKeyring),
    ("/v1/keyrings/{a}/seal", Node::Seal),
    ("/v1/keyrings/{a}/{b}/seal", Node::TenantSeal),
    ("/v1/open", Node::Open),
];

const CONTROL: &[(&str, Node)] = &[
    ("/v1/keyrings", Node::Keyrings),
    ("/v1/keyrings/{a}", Node::Keyring),
    ("/v1/keyrings/{a}/{b}", Node::TenantKeyring),
    ("/v1/keyrings/{a}/partitions/shred", Node::Shred),
    ("/v1/keyrings/{a}/{b}/partitions/shred", Node::TenantShred),
    ("/v1/keyrings/{a}/partitions/rewrap", Node::RewrapPartitions),
    ("/v1/keyrings/{a}/{b}/partitions/rewrap", Node::TenantRewrapPartitions),
    ("/v1/audit/records", Node::Audit),
];

impl Routes {
    /// Errors only if two paths of a table collide, which a test excludes.
    pub(super) fn new(surface: Surface) -> Result<Self, matchit::InsertError> {
        let table = match surface {
            Surface::DataSocket | Surface::DataTcp => DATA,
            Surface::Control => CONTROL,
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
            (Node::Shred, &Method::POST) => named(&one(), Verb::PartitionShred, Route::ShredPartition),
            (Node::TenantShred, &Method::POST) => named(&two(), Verb::PartitionShred, Route::ShredPartition),
            (Node::RewrapPartitions, &Method::POST) => named(&one(), Verb::PartitionRewrap, Route::RewrapPartitions),
            (Node::TenantRewrapPartitions, &Method::POST) => {
                named(&two(), Verb::PartitionRewrap, Route::RewrapPartitions)
            }
            (Node::Audit, &Method::GET) => Found::Route(Route::ReadAudit),
            (node, _) => Found::WrongMethod(node.methods()),
        }
    }
}

impl Node {
    const fn methods(self) -> &'static str {
        match self {
            Self::Keyrings | Self::Seal => "GET, POST",
            Self::Keyring | Self::TenantKeyring | Self::ReadOnlyKeyrings | Self::Audit => "GET",
            Self::TenantSeal
            | Self::Open
            | Self::Shred
            | Self::TenantShred
            | Self::RewrapPartitions
            | Self::TenantRewrapPartitions => "POST",
        }
    }
}

impl Route {
    /// The verb that it is counted as.
    pub(super) const fn verb(&self) -> Verb {
        match self {
            Self::Seal(_) => Verb::Seal,
            Self::Open => Verb::Open,
            Self::CreateKeyring => Verb::KeyringCreate,
            Self::ListKeyrings => Verb::KeyringList,
            Self::ShowKeyring(_) => Verb::KeyringShow,
            Self::ShredPartition(_) => Verb::PartitionShred,
            Self::RewrapPartitions(_) => Verb::PartitionRewrap,
            Self::ReadAudit => Verb::AuditRead,
        }
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
        assert_eq!(control.find(&Method::POST, "/v1/keyrings/p/seal"), Found::WrongMethod("GET"));
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
