use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const WIDE: UsageLimits = UsageLimits { messages: 1 << 32, bytes: 1 << 46 };
const MORE: Need = Need::Seal { messages: 0, bytes: 0 };
const START: Mono = Mono(1_000_000_000);

/// A sidecar with its durable row.
struct Sidecar {
    meter: Meter,
    row: Option<(u64, Tally)>,
    writes: u64,
    now: Mono,
    limits: UsageLimits,
}

impl Sidecar {
    fn new() -> Self {
        Self { meter: Meter::new(None), row: None, writes: 0, now: START, limits: WIDE }
    }

    fn write(&mut self, need: Need) {
        let drawn = self.meter.draw(need, self.limits, self.now);
        assert_eq!(drawn.generation, self.row.map_or(0, |(generation, _)| generation) + 1);
        self.row = Some((drawn.generation, drawn.row));
        self.writes += 1;
        self.meter.written(&drawn);
    }

    /// Seals as the keyring does: what is not covered is covered first.
    fn seal(&mut self, messages: u64, bytes: u64) {
        match self.meter.seal(messages, bytes) {
            Grant::Given => {}
            Grant::TopUp => self.write(MORE),
            Grant::Needs => {
                self.write(Need::Seal { messages, bytes });
                assert_ne!(self.meter.seal(messages, bytes), Grant::Needs, "what was drawn for it covers it");
            }
        }
    }

    fn open(&mut self, day: Day) {
        match self.meter.open(day) {
            Grant::Given => {}
            Grant::TopUp => self.write(Need::Open(day)),
            Grant::Needs => {
                self.write(Need::Open(day));
                assert_ne!(self.meter.open(day), Grant::Needs);
            }
        }
    }

    fn restart(&mut self) {
        self.meter = Meter::new(self.row);
    }

    fn stored(&self) -> Tally {
        self.row.map_or_else(Tally::default, |(_, row)| row)
    }
}

proptest! {
    /// Whatever happens, in whatever order, the durable row is at least what was sealed.
    #[test]
    fn what_is_stored_is_never_less_than_what_was_sealed(
        steps in proptest::collection::vec((0u8..20, 0u64..5_000, 0u64..50_000_000, 0u64..3_000), 1..200),
    ) {
        let mut sidecar = Sidecar::new();
        let (mut messages, mut bytes, mut last) = (0, 0, Day(0));
        for (kind, some, size, seconds) in steps {
            sidecar.now = sidecar.now.plus(Duration::from_secs(seconds));
            match kind {
                0 => sidecar.restart(),
                1 => sidecar.meter.failed(),
                2 => {
                    // A write of which nobody heard whether it is there.
                    let drawn = sidecar.meter.draw(Need::Seal { messages: some, bytes: size }, WIDE, sidecar.now);
                    sidecar.meter.failed();
                    sidecar.row = Some((drawn.generation, drawn.row));
                    sidecar.meter.rebase(drawn.generation, drawn.row);
                }
                3 => {
                    let day = Day(u32::try_from(some).unwrap());
                    sidecar.open(day);
                    last = last.max(day);
                }
                _ => {
                    sidecar.seal(some, size);
                    messages += some;
                    bytes += size;
                }
            }
            let stored = sidecar.stored();
            prop_assert!(stored.messages >= messages && stored.bytes >= bytes && stored.opened >= last);
        }
    }
}

#[test]
fn a_restart_loses_the_rest_of_a_block_and_no_more() {
    let mut sidecar = Sidecar::new();
    sidecar.seal(3, 100);
    for _ in 0..10 {
        sidecar.restart();
        sidecar.seal(1, 10);
    }
    let stored = sidecar.stored();
    assert!(stored.messages >= 13 && stored.messages <= 13 + 11 * LEAST_MESSAGES * 2, "{stored:?}");
}

#[test]
fn a_row_that_may_or_may_not_be_there_covers_nothing_and_counts_as_used_once_it_is_found() {
    let mut sidecar = Sidecar::new();
    sidecar.seal(1, 1);
    let before = sidecar.meter.used();
    let drawn = sidecar.meter.draw(Need::Seal { messages: 1 << 20, bytes: 5 }, WIDE, START);
    sidecar.meter.failed();
    assert_eq!(sidecar.meter.seal(1 << 20, 1), Grant::Needs);
    // It was there, and whoever has the same name may have used it.
    sidecar.row = Some((drawn.generation, drawn.row));
    sidecar.meter.rebase(drawn.generation, drawn.row);
    assert_eq!(sidecar.meter.seal(1 << 20, 1), Grant::Needs);
    assert!(sidecar.meter.used().messages > before.messages + (1 << 20));
    sidecar.seal(1, 1);
    sidecar.write(Need::Open(Day(3)));
    assert!(sidecar.stored().messages >= sidecar.meter.used().messages);
}

/// Ten thousand messages a second for an hour.
#[test]
fn a_busy_key_writes_seldom_and_never_waits_once_it_has_found_its_size() {
    let mut sidecar = Sidecar::new();
    let mut waited = 0;
    for second in 0..3_600 {
        sidecar.now = START.plus(Duration::from_secs(second));
        for _ in 0..10 {
            if sidecar.meter.seal(1_000, 1_000_000) == Grant::Needs {
                assert!(second < 60, "waits in second {second}");
                waited += 1;
                sidecar.write(Need::Seal { messages: 1_000, bytes: 1_000_000 });
            } else if sidecar.meter.low_was_claimed() {
                sidecar.write(MORE);
            }
        }
    }
    assert!(sidecar.writes < 40 && waited < 15, "{} writes, {waited} of them waited for", sidecar.writes);
    let (stored, used) = (sidecar.stored(), sidecar.meter.used());
    assert!(stored.messages - used.messages <= MOST_MESSAGES, "{stored:?} {used:?}");
}

impl Meter {
    fn low_was_claimed(&self) -> bool {
        let of = |counter: &Counter| counter.low.load(Ordering::Relaxed) == u64::MAX;
        of(&self.messages) || of(&self.bytes)
    }
}

#[test]
fn an_idle_key_goes_back_to_small_blocks() {
    let mut sidecar = Sidecar::new();
    let mut use_up = |pause| {
        for _ in 0..20 {
            sidecar.now = sidecar.now.plus(pause);
            sidecar.seal(sidecar.stored().messages - sidecar.meter.used().messages, 0);
            sidecar.seal(1, 0);
        }
        sidecar.meter.book().messages.size
    };
    assert_eq!((use_up(LASTS / 9), use_up(LASTS * 9)), (MOST_MESSAGES, LEAST_MESSAGES));
}

#[test]
fn blocks_shrink_before_a_limit_so_that_restarts_do_not_bring_it_forward_by_much() {
    let mut sidecar = Sidecar::new();
    sidecar.limits = UsageLimits { messages: 1_000, bytes: 1 << 40 };
    for _ in 0..10 {
        sidecar.seal(1, 1);
        sidecar.restart();
    }
    assert!(sidecar.stored().messages < 500, "{:?}", sidecar.stored());
    while sidecar.stored().messages < 1_000 {
        sidecar.seal(1, 1);
    }
    let wasted = sidecar.stored().messages - sidecar.meter.used().messages;
    assert!(wasted <= 2, "{wasted} at the limit");
    sidecar.seal(5_000, 1);
    assert!(sidecar.stored().messages >= 5_999, "beyond the limit it goes on counting");
}

#[test]
fn many_threads_are_given_no_more_than_what_is_covered() {
    let meter = Arc::new(Meter::new(None));
    let drawn = meter.draw(Need::Seal { messages: 10_000, bytes: 1 << 30 }, WIDE, START);
    meter.written(&drawn);
    let threads = (0..8).map(|_| {
        let meter = Arc::clone(&meter);
        std::thread::spawn(move || {
            let (mut given, mut told) = (0, 0);
            for _ in 0..5_000 {
                match meter.seal(1, 10) {
                    Grant::Given => given += 1,
                    Grant::TopUp => (given, told) = (given + 1, told + 1),
                    Grant::Needs => {}
                }
            }
            (given, told)
        })
    });
    let threads: Vec<_> = threads.collect();
    let (given, told) =
        threads.into_iter().map(|thread| thread.join().unwrap()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    assert!(given <= drawn.row.messages && given >= 10_000, "{given} of {}", drawn.row.messages);
    assert_eq!(meter.used().messages, given, "what was not given was put back");
    assert_eq!(told, 1, "one is told to top up");
}

#[test]
fn openings_are_covered_for_a_day_ahead_and_a_clock_that_was_set_back_uncovers_none() {
    let mut sidecar = Sidecar::new();
    assert_eq!(sidecar.meter.open(Day(100)), Grant::Needs);
    sidecar.open(Day(100));
    assert_eq!((sidecar.stored().opened, sidecar.writes), (Day(101), 1));
    assert_eq!(sidecar.meter.open(Day(100)), Grant::Given);
    assert_eq!(sidecar.meter.open(Day(20)), Grant::Given);
    assert_eq!(sidecar.meter.open(Day(101)), Grant::TopUp, "the first of the day, and nobody waits");
    assert_eq!(sidecar.meter.open(Day(101)), Grant::Given);
    sidecar.meter.failed();
    assert_eq!(sidecar.meter.open(Day(101)), Grant::TopUp, "somebody else tries again");
    sidecar.write(Need::Open(Day(101)));
    assert_eq!(sidecar.stored(), Tally { messages: 0, bytes: 0, opened: Day(102) });
    sidecar.restart();
    assert_eq!(sidecar.meter.open(Day(101)), Grant::Given);
    assert_eq!(sidecar.meter.open(Day(104)), Grant::Needs, "after some quiet days one waits");
}

#[test]
fn an_opening_reserves_nothing_for_sealing() {
    let mut sidecar = Sidecar::new();
    sidecar.seal(1, 1);
    let before = sidecar.stored();
    sidecar.open(Day(9));
    assert_eq!(sidecar.stored(), Tally { opened: Day(10), ..before });
}

#[test]
fn the_total_is_the_sum_over_all_sidecars_and_the_newest_day() {
    let row = |messages, bytes, day| Tally { messages, bytes, opened: Day(day) };
    assert_eq!(Tally::sum([row(1, 10, 5), row(2, 20, 9), row(u64::MAX, 3, 0)]), row(u64::MAX, 33, 9));
    assert_eq!(Day::of(Wall(1_780_315_200_000_000)).0, 20_605);
}
