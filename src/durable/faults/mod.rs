//! What can go wrong with a disk, decided in advance? A plan of failures, and the disk that a restart would see.
//! This module exists in test builds only (feature `faults`); the same seed gives the same disk.
//!
//! With a plan, syncs do not reach the machine's disk: the shadow copy is what a restart sees, so the real sync would
//! prove nothing and cost milliseconds.

mod shadow;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;

use super::{Act, Disk};
use shadow::Shadow;

/// What happens at a step of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done and an I/O error is reported.
    Fail,
    /// Nothing is done: the disk is full.
    NoSpace,
    /// It is done, durably, and an I/O error is reported.
    FailPersisted,
    /// A write stops after this many bytes and says so; the writer may carry on.
    Short(usize),
    /// A write stops after this many bytes and reports an I/O error.
    Torn(usize),
    /// It is done after a while.
    Delay(Duration),
    /// The power goes: nothing is done, now or later.
    PowerOff,
}

/// Kinds of steps that a plan can count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Any change to the disk.
    Any,
    /// A write into a file.
    Write,
    /// A sync of a file.
    Sync,
    /// A sync of a directory.
    SyncDir,
    /// A file or directory appears, moves or goes.
    Entry,
}

/// What survives a crash of the machine besides what was synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing: the cruellest disk.
    Unsynced,
    /// A seeded choice of the unsynced pages and entries.
    Some,
    /// Everything: the process died, the machine did not.
    Nothing,
}

/// A fault plan and the shadow of the disk it governs.
#[derive(Debug)]
pub struct Faults {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    planned: Vec<(Step, u64, Fault)>,
    counts: [u64; 5],
    syncs_do_nothing: bool,
    off: bool,
    shadow: Shadow,
}

impl Faults {
    /// A plan without faults: everything works, unsynced bytes can be lost by [`Faults::restart`].
    pub fn seeded(seed: u64) -> Arc<Self> {
        let state = State {
            planned: Vec::new(),
            counts: [0; 5],
            syncs_do_nothing: false,
            off: false,
            shadow: Shadow::seeded(seed),
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// The disk that follows this plan.
    pub fn disk(self: &Arc<Self>) -> Disk {
        Disk::with_faults(Arc::clone(self))
    }

    /// Plans a fault for the `nth` step of a kind from now on; 0 is the next one.
    pub fn plan(&self, step: Step, nth: u64, fault: Fault) {
        let mut state = self.lock();
        let at = state.count(step) + nth;
        state.planned.push((step, at, fault));
    }

    /// From now on a sync of a file reports success and does nothing.
    pub fn syncs_do_nothing(&self) {
        self.lock().syncs_do_nothing = true;
    }

    /// How many steps of a kind there were.
    pub fn steps(&self, step: Step) -> u64 {
        self.lock().count(step)
    }

    /// Cuts the power and leaves on the real disk what a restart would see. Every later change through this plan's
    /// disks fails; go on with a new disk.
    pub fn restart(&self, loss: Loss) -> std::io::Result<()> {
        let mut state = self.lock();
        state.off = true;
        match loss {
            Loss::Nothing => Ok(()),
            Loss::Unsynced => state.shadow.materialise(false),
            Loss::Some => state.shadow.materialise(true),
        }
    }

    pub(super) fn number_of(&self, path: &Path) -> u64 {
        self.lock().shadow.number_of(path)
    }

    pub(super) fn perform<T>(&self, act: Act<'_>, run: impl FnOnce(&Act<'_>) -> Result<T, Errno>) -> Result<T, Errno> {
        let fault = self.lock().due(&act);
        if let Some(Fault::Delay(pause)) = fault {
            std::thread::sleep(pause);
        }
        let mut state = self.lock();
        if state.off || fault == Some(Fault::PowerOff) {
            state.off = true;
            return Err(Errno::IO);
        }
        match (fault, act) {
            (Some(Fault::Fail), _) => Err(Errno::IO),
            (Some(Fault::NoSpace), _) => Err(Errno::NOSPC),
            (Some(Fault::FailPersisted), _) => {
                let done = state.carry_out(act, run);
                state.shadow.persist(&act);
                done.and(Err(Errno::IO))
            }
            (Some(Fault::Short(most)), Act::Write { file, at, bytes }) => {
                state.carry_out(Act::Write { file, at, bytes: first(bytes, most.max(1)) }, run)
            }
            (Some(Fault::Torn(most)), Act::Write { file, at, bytes }) if most > 0 => {
                state.carry_out(Act::Write { file, at, bytes: first(bytes, most) }, run).and(Err(Errno::IO))
            }
            (Some(Fault::Torn(_)), _) => Err(Errno::IO),
            _ => state.carry_out(act, run),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts the step and finds what is planned for it.
    fn due(&mut self, act: &Act<'_>) -> Option<Fault> {
        let kind = match act {
            Act::Write { .. } | Act::SetLen { .. } => Step::Write,
            Act::Sync { .. } => Step::Sync,
            Act::SyncDir { .. } => Step::SyncDir,
            _ => Step::Entry,
        };
        let found = self.planned.iter().find(|(step, at, _)| match step {
            Step::Any => *at == self.count(Step::Any),
            step => *step == kind && *at == self.count(kind),
        });
        let fault = found.map(|(_, _, fault)| *fault);
        for step in [Step::Any, kind] {
            if let Some(count) = self.counts.get_mut(step as usize) {
                *count += 1;
            }
        }
        fault
    }

    /// Does it on the real disk and, if that worked, in the shadow.
    fn carry_out<T>(&mut self, act: Act<'_>, run: impl FnOnce(&Act<'_>) -> Result<T, Errno>) -> Result<T, Errno> {
        match act {
            Act::Sync { .. } if self.syncs_do_nothing => run(&Act::Nothing),
            Act::Sync { .. } | Act::SyncDir { .. } => {
                self.shadow.note(&act);
                run(&Act::Nothing)
            }
            _ => {
                self.shadow.prepare(&act);
                let done = run(&act)?;
                self.shadow.note(&act);
                Ok(done)
            }
        }
    }

    fn count(&self, step: Step) -> u64 {
        self.counts.get(step as usize).copied().unwrap_or(0)
    }
}

fn first(bytes: &[u8], most: usize) -> &[u8] {
    bytes.get(..most).unwrap_or(bytes)
}
