//! Can another process of this user, or a crash, read our memory? Not after this.

use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, dumpable_behavior, getrlimit, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{no_new_privs, set_no_new_privs};

/// Why the process could not be hardened; serving is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HardenError {
    /// The kernel refused a setting.
    #[error("the kernel refused {0}: {1}")]
    Refused(&'static str, Errno),
    /// The kernel accepted a setting and then reported another value.
    #[error("the kernel accepted {0} but does not report it")]
    NotInForce(&'static str),
}

const DUMPABLE: &str = "PR_SET_DUMPABLE 0";
const CORE: &str = "RLIMIT_CORE 0";
const NO_NEW_PRIVS: &str = "PR_SET_NO_NEW_PRIVS";

/// Makes the process non-dumpable (no core, no ptrace and no /proc/PID/mem by the same user), sets the core limit
/// to 0 and gives up gaining privileges; each is read back. Call before any thread is started: `no_new_privs`
/// belongs to a thread and is inherited by those it starts.
pub fn harden_process() -> Result<(), HardenError> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|e| HardenError::Refused(DUMPABLE, e))?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(|e| HardenError::Refused(CORE, e))?;
    set_no_new_privs(true).map_err(|e| HardenError::Refused(NO_NEW_PRIVS, e))?;
    verify()
}

fn verify() -> Result<(), HardenError> {
    if dumpable_behavior() != Ok(DumpableBehavior::NotDumpable) {
        return Err(HardenError::NotInForce(DUMPABLE));
    }
    let core = getrlimit(Resource::Core);
    if core.current != Some(0) || core.maximum != Some(0) {
        return Err(HardenError::NotInForce(CORE));
    }
    if no_new_privs() != Ok(true) {
        return Err(HardenError::NotInForce(NO_NEW_PRIVS));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // The settings cannot be taken back, so they are made in a process of their own.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "the child learns by its environment that it is one")]
    fn a_hardened_process_reports_every_setting() {
        if std::env::var_os(CHILD).is_some() {
            return in_a_process_of_its_own();
        }
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "secret::harden::tests::a_hardened_process_reports_every_setting", "--test-threads=1"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout).into_owned();
        assert!(child.status.success(), "{said}");
        assert!(said.contains("1 passed"), "the inner test did not run: {said}");
    }

    /// Set for the process of the test's own.
    const CHILD: &str = "KEYWARD_TEST_HARDENED";

    fn in_a_process_of_its_own() {
        assert_eq!(verify(), Err(HardenError::NotInForce(DUMPABLE)), "before hardening nothing holds");
        harden_process().unwrap();
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        assert!(status.lines().any(|line| line.split_whitespace().eq(["NoNewPrivs:", "1"])), "{status}");
        let limits = std::fs::read_to_string("/proc/thread-self/limits").unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert!(core.split_whitespace().skip(4).take(2).eq(["0", "0"]), "{core}");
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
        assert!(setrlimit(Resource::Core, Rlimit { current: Some(1), maximum: Some(1) }).is_err() || is_root());
    }

    fn is_root() -> bool {
        rustix::process::geteuid().is_root()
    }
}
