//! Where do keys live? In one locked slab of fixed-size slots for the whole process: never swapped, never dumped, not
//! inherited by a fork, fenced by guard pages, and every slot zero before and after its use.
//! One slab and not a page a key, because the limit on locked memory is small and a page holds many keys.
//! Not covered: what a cipher library copies to the stack while it works (SECURITY.md says so).

#![allow(unsafe_code, reason = "the one place that maps, locks and wipes memory by hand; each block has its note")]

use std::ffi::c_void;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mlock, mmap_anonymous, mprotect, munmap};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Bytes of one slot: the schedules of one message key in their largest form (portable AES: 960 bytes) and room.
pub const SLOT_BYTES: usize = 1280;
/// Slots are aligned to a cache line, and no type in them may ask for more.
const SLOT_ALIGN: usize = 64;
/// Sizes are multiples of the largest page of any supported kernel, so that no page size has to be asked for.
const GRAIN: usize = 64 * 1024;
/// Slots when nobody installed a slab: tests and short-lived commands.
const DEFAULT_SLOTS: usize = 1024;

/// The part's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How many keys can be held at once; three a cached data key are ample.
    pub slots: usize,
    /// What to do if the kernel does not lock the memory.
    pub on_lock_failure: OnLockFailure,
}

/// What to do if the kernel does not lock the memory or does not keep it out of dumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLockFailure {
    /// Refuse to start.
    Refuse,
    /// Warn loudly and go on; [`Usage::locked`] says so for as long as the process runs.
    Warn,
}

/// Why there is no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SlabError {
    /// All slots are in use: a larger slab, or fewer cached keys.
    #[error("all {0} slots for keys are in use")]
    Exhausted(usize),
    /// The kernel did not lock the slab.
    #[error("{bytes} bytes for keys could not be locked in memory ({errno}); raise the limit on locked memory")]
    NotLocked {
        /// Size of the slab.
        bytes: usize,
        /// What the kernel said.
        errno: Errno,
    },
    /// The slab could not be mapped, or its size makes no sense.
    #[error("the slab for keys could not be mapped: {0}")]
    NotMapped(Errno),
    /// A slab exists: installing comes first and once.
    #[error("the slab for keys is already installed")]
    AlreadyInstalled,
}

/// The slab's use, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Slots there are.
    pub slots: usize,
    /// Slots in use.
    pub used: usize,
    /// The most that were in use at once.
    pub peak: usize,
    /// Whether the kernel holds the slab in memory and out of dumps.
    pub locked: bool,
}

/// Maps and locks the slab of the process: once, before the first key.
pub fn install(settings: &Settings) -> Result<Usage, SlabError> {
    let mut first = false;
    let slab = SLAB.get_or_init(|| {
        first = true;
        Slab::map(settings.slots, settings.on_lock_failure, lock)
    });
    match (first, slab) {
        (true, Ok(slab)) => Ok(slab.usage()),
        (true, Err(error)) => Err(*error),
        (false, _) => Err(SlabError::AlreadyInstalled),
    }
}

/// The use of the slab of the process.
pub fn usage() -> Result<Usage, SlabError> {
    Slab::of_process().map(Slab::usage)
}

/// A value in a slot of its own in locked memory. The slot is wiped when the value is dropped.
///
/// ```
/// let key: keyward::secret::Locked<[u8; 1024]> = keyward::secret::Locked::new_with(|| [0; 1024]).unwrap();
/// ```
///
/// A type that does not fit a slot does not compile:
///
/// ```compile_fail
/// let key: keyward::secret::Locked<[u8; 2048]> = keyward::secret::Locked::new_with(|| [0; 2048]).unwrap();
/// ```
pub struct Locked<T> {
    slot: Slot,
    value: PhantomData<T>,
}

// SAFETY: a Locked<T> is the only handle to its T, as a Box<T> is: sending it sends a T, sharing it shares a &T.
unsafe impl<T: Send> Send for Locked<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Locked<T> {}

impl<T> Locked<T> {
    const FITS: () = assert!(
        size_of::<T>() <= SLOT_BYTES && align_of::<T>() <= SLOT_ALIGN,
        "the type does not fit a slot of the locked slab"
    );

    /// Puts what `make` returns into a slot. The optimiser usually builds it there; for plain bytes
    /// [`Self::fill_with`] always does.
    pub fn new_with(make: impl FnOnce() -> T) -> Result<Self, SlabError> {
        Self::try_new_with(|| Ok(make()))
    }

    /// As [`Self::new_with`], for a construction that can fail.
    pub fn try_new_with<E: From<SlabError>>(make: impl FnOnce() -> Result<T, E>) -> Result<Self, E> {
        Self::build_in(Slab::of_process()?, make)
    }

    fn build_in<E: From<SlabError>>(slab: &'static Slab, make: impl FnOnce() -> Result<T, E>) -> Result<Self, E> {
        const { Self::FITS };
        let slot = slab.take()?;
        // SAFETY: the slot is ours alone, mapped read-write for the life of the process, and FITS has checked that
        // size and alignment of T are no more than the slot's. If `make` panics or fails, `slot` wipes and returns it.
        unsafe { slot.place().cast::<T>().write(make()?) };
        Ok(Self { slot, value: PhantomData })
    }
}

impl<T: Default> Locked<T> {
    /// Puts the default value into a slot and lets `fill` complete it there: no byte of it is ever elsewhere.
    pub fn fill_with<E: From<SlabError>>(fill: impl FnOnce(&mut T) -> Result<(), E>) -> Result<Self, E> {
        let locked = Self::new_with(T::default)?;
        // SAFETY: the slot holds a T (just built) and `locked` is its only handle.
        fill(unsafe { locked.slot.place().cast::<T>().as_mut() })?;
        Ok(locked)
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: from construction to drop the slot holds a T, and no &mut to it is ever given out after that.
        unsafe { self.slot.place().cast::<T>().as_ref() }
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        // SAFETY: the slot holds a T that nothing borrows any more; after this only the slot's own drop touches it.
        unsafe { ptr::drop_in_place(self.slot.place().cast::<T>().as_ptr()) };
    }
}

impl<T> fmt::Debug for Locked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Locked(..)")
    }
}

static SLAB: OnceLock<Result<Slab, SlabError>> = OnceLock::new();

/// The mapping: guard, slots, guard. Lives until the process ends.
struct Slab {
    base: NonNull<u8>,
    slots: usize,
    locked: bool,
    pool: Mutex<Pool>,
}

/// [`lock`], or in tests a kernel that refuses.
type Lock = fn(NonNull<u8>, usize) -> Result<(), Errno>;

/// Which slots are free; `free` is filled once and never grows, so taking a slot allocates nothing.
struct Pool {
    free: Vec<usize>,
    peak: usize,
}

// SAFETY: `base` is an address that never changes; slots are handed out under the mutex to one owner at a time.
unsafe impl Send for Slab {}
// SAFETY: as above.
unsafe impl Sync for Slab {}

impl Slab {
    fn of_process() -> Result<&'static Self, SlabError> {
        SLAB.get_or_init(|| Self::map(DEFAULT_SLOTS, OnLockFailure::Warn, lock)).as_ref().map_err(|error| *error)
    }

    fn map(slots: usize, on_lock_failure: OnLockFailure, lock: Lock) -> Result<Self, SlabError> {
        let bytes = slots
            .checked_mul(SLOT_BYTES)
            .and_then(|bytes| bytes.checked_next_multiple_of(GRAIN))
            .filter(|bytes| *bytes > 0)
            .ok_or(SlabError::NotMapped(Errno::INVAL))?;
        let base = map_between_guards(bytes).map_err(SlabError::NotMapped)?;
        let locked = match lock(base, bytes) {
            Ok(()) => true,
            Err(errno) if on_lock_failure == OnLockFailure::Refuse => {
                unmap(base, bytes);
                return Err(SlabError::NotLocked { bytes, errno });
            }
            Err(errno) => {
                tracing::warn!(bytes, %errno, "keys are NOT locked in memory: they can reach the swap device");
                false
            }
        };
        // Reversed, so that slots are handed out from the lowest address.
        let free = (0..slots).rev().collect();
        Ok(Self { base, slots, locked, pool: Mutex::new(Pool { free, peak: 0 }) })
    }

    fn take(&'static self) -> Result<Slot, SlabError> {
        let mut pool = self.pool();
        let index = pool.free.pop().ok_or(SlabError::Exhausted(self.slots))?;
        pool.peak = pool.peak.max(self.slots - pool.free.len());
        Ok(Slot { slab: self, index })
    }

    fn usage(&self) -> Usage {
        let pool = self.pool();
        Usage { slots: self.slots, used: self.slots - pool.free.len(), peak: pool.peak, locked: self.locked }
    }

    /// A panic while the lock is held cannot leave the pool half changed, so poison is ignored.
    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One slot, owned. Whatever it held is wiped before it is free again.
struct Slot {
    slab: &'static Slab,
    index: usize,
}

impl Slot {
    fn place(&self) -> NonNull<u8> {
        // SAFETY: index < slots, so the slot lies within the mapping, whose size was checked not to overflow.
        unsafe { self.slab.base.add(self.index * SLOT_BYTES) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // SAFETY: the slot is SLOT_BYTES of mapped memory that only this owner uses; zeros are valid bytes.
        unsafe { zeroize::zeroize_flat_type(self.place().cast::<[u8; SLOT_BYTES]>().as_ptr()) };
        self.slab.pool().free.push(self.index);
    }
}

fn map_between_guards(bytes: usize) -> Result<NonNull<u8>, Errno> {
    let whole = bytes.checked_add(2 * GRAIN).ok_or(Errno::INVAL)?;
    // SAFETY: a new private mapping at an address of the kernel's choice touches no memory of ours.
    let start = unsafe { mmap_anonymous(ptr::null_mut(), whole, ProtFlags::empty(), MapFlags::PRIVATE)? };
    // SAFETY: the middle lies within the mapping just made; GRAIN is a multiple of every page size.
    let base = unsafe { start.cast::<u8>().add(GRAIN) };
    // SAFETY: as above; nothing refers to this memory yet.
    unsafe { mprotect(base.cast::<c_void>(), bytes, MprotectFlags::READ | MprotectFlags::WRITE)? };
    NonNull::new(base).ok_or(Errno::NOMEM)
}

fn unmap(base: NonNull<u8>, bytes: usize) {
    // SAFETY: the mapping of map_between_guards, to which no reference was ever given out.
    let outcome = unsafe { munmap(base.as_ptr().sub(GRAIN).cast::<c_void>(), bytes + 2 * GRAIN) };
    debug_assert!(outcome.is_ok(), "a mapping of our own unmaps");
}

fn lock(base: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
    let start = base.as_ptr().cast::<c_void>();
    // SAFETY: advice about and locking of a mapping of our own changes neither its content nor its bounds.
    unsafe {
        madvise(start, bytes, Advice::LinuxDontDump)?;
        // Kernels before 4.14 do not know it. A child of a fork then inherits the keys, but keyward only ever
        // forks to execute another program.
        let _ = madvise(start, bytes, Advice::LinuxWipeOnFork);
        if mlock(start, bytes).is_ok() {
            return Ok(());
        }
        raise_lock_limit();
        mlock(start, bytes)
    }
}

/// Raises the soft limit on locked memory to the hard one; a failure shows in the next attempt to lock.
fn raise_lock_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Memlock);
    let _ = setrlimit(Resource::Memlock, Rlimit { current: maximum, maximum });
}

#[cfg(test)]
impl Slab {
    /// What a slot holds, in use or not.
    fn bytes_of(&self, index: usize) -> [u8; SLOT_BYTES] {
        assert!(index < self.slots);
        // SAFETY: within the mapping, readable, initialised by the kernel, by a value without padding or by a wipe.
        unsafe { self.base.add(index * SLOT_BYTES).cast::<[u8; SLOT_BYTES]>().read_volatile() }
    }
}

#[cfg(test)]
mod tests;
