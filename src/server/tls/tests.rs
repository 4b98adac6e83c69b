use std::path::Path;

use crate::clock::{ManualClock, SystemClock};

use super::*;

#[path = "../../../tests/support/authority.rs"]
mod authority;

use authority::{Authority, Issued, replace};

struct Files {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let made = Self { dir: tempfile::tempdir().unwrap(), authority: Authority::new() };
        made.put(&made.authority.server());
        replace(&made.authority.certificate(), &made.path("bundle"));
        made
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, Issued { certificate, key }: &Issued) {
        replace(certificate, &self.path("certificate"));
        replace(key, &self.path("key"));
    }

    fn settings(&self) -> Settings {
        Settings {
            data: None,
            control: None,
            certificate: self.path("certificate"),
            key: self.path("key"),
            trust_bundle: self.path("bundle"),
            trust_domain: "example.org".parse().unwrap(),
        }
    }

    fn load(&self) -> Result<Arc<Tls>, TlsError> {
        Tls::load(&self.settings(), &(Arc::new(SystemClock) as SharedClock))
    }
}

#[expect(clippy::disallowed_methods, reason = "a test plays the operator who writes certificates")]
fn write(path: &Path, text: &[u8]) {
    std::fs::write(path, text).unwrap();
}

#[test]
fn a_set_that_is_half_replaced_is_told_of_only_if_it_stays_so_and_once() {
    let files = Files::new();
    let tls = files.load().unwrap();
    assert_eq!(tls.poll(), Polled::Same);
    let (first, next) = (tls.lives(), files.authority.server());
    replace(&next.certificate, &files.path("certificate"));
    assert_eq!(tls.poll(), Polled::Same, "its key may be on the way");
    replace(&next.key, &files.path("key"));
    assert!(matches!(tls.poll(), Polled::Replaced(_)));
    assert_eq!(tls.poll(), Polled::Same);
    write(&files.path("certificate"), b"no certificate");
    let polled = [tls.poll(), tls.poll(), tls.poll()];
    assert!(matches!(polled, [Polled::Same, Polled::Refused(TlsError::File { .. }), Polled::Same]), "{polled:?}");
    assert!(tls.problem().is_some() && tls.lives().bundle == first.bundle);
    replace(&next.certificate, &files.path("certificate"));
    assert_eq!((tls.poll(), tls.problem()), (Polled::Same, None), "the files are those in force again");
}

#[test]
fn files_that_nobody_could_serve_by_are_refused_by_name() {
    let files = Files::new();
    let other = files.authority.server();
    replace(&other.key, &files.path("key"));
    assert_eq!(files.load().err(), Some(TlsError::KeyMismatch));
    replace(&other.certificate, &files.path("certificate"));
    assert!(files.load().is_ok());
    let later = ManualClock::at(Wall(u64::MAX / 2)) as SharedClock;
    assert_eq!(Tls::load(&files.settings(), &later).err(), Some(TlsError::Expired));
    write(&files.path("bundle"), b"");
    let Err(TlsError::File { path, problem }) = files.load() else { panic!("an empty bundle believes nobody") };
    assert_eq!((path, problem.as_str()), (files.path("bundle"), "holds no certificate in PEM"));
}
