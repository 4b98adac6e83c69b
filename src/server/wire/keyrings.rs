//! How is a keyring told? Its demands, its limits, its versions and what is to become of them; and the same with what was
//! counted of each version, for the inventory. Times are RFC 3339, periods whole days and seconds.

use std::sync::Arc;

use super::pen::Pen;
use crate::clock::Wall;
use crate::names::KeyringName;
use crate::service::{Following, KeyLimits, KeyState, KeyringView, Suite, Tally, VersionView};

pub(super) fn keyring(pen: &mut Pen, view: &KeyringView) {
    told(pen, view, None, |_| {});
}

/// A keyring after a step that takes something away, with who has not followed it.
pub(super) fn stepped(pen: &mut Pen, view: &KeyringView, following: Option<&Following>) {
    told(pen, view, None, |pen| {
        if let Some(following) = following {
            pen.raw(",");
            super::following::fields(pen, following);
        }
    });
}

/// A page of the inventory.
pub(super) fn inventory(pen: &mut Pen, keyrings: &[(Arc<KeyringView>, Vec<Tally>)], now: Wall) {
    pen.raw("{\"keyrings\":");
    pen.list(keyrings, |pen, (view, used)| told(pen, view, Some((used, now)), |_| {}));
}

/// Where a page ends, and what it may lack.
pub(super) fn rest(pen: &mut Pen, next: Option<&KeyringName>, damaged: Option<&str>) {
    if let Some(next) = next {
        pen.raw(",\"next\":");
        pen.string(&next.to_string());
    }
    if let Some(damaged) = damaged {
        pen.raw(",\"damaged\":");
        pen.string(damaged);
    }
    pen.raw("}");
}

/// With what was counted of each version: the keyring's own, then those of its look-up keys.
fn told(pen: &mut Pen, view: &KeyringView, counted: Option<(&[Tally], Wall)>, more: impl FnOnce(&mut Pen)) {
    let of = |at: usize| counted.and_then(|(used, now)| Some((*used.get(at)?, now)));
    pen.raw("{\"name\":");
    pen.string(&view.name.to_string());
    pen.raw(",\"suite\":");
    pen.string(suite(view.suite));
    pen.raw(",\"required_context\":");
    pen.list(&view.required_context, |pen, key| pen.string(key));
    for (field, key) in [(",\"subject_key\":", &view.subject_key), (",\"partition_key\":", &view.partition_key)] {
        if let Some(key) = key {
            pen.raw(field);
            pen.string(key);
        }
    }
    limits(pen, &view.limits);
    pen.raw(",\"escrow\":");
    pen.string(view.limits.escrow().name());
    time(pen, ",\"rotation_due\":", view.rotation_due());
    time(pen, ",\"next_rotation\":", view.next_rotation());
    time(pen, ",\"created\":", Some(view.created));
    pen.raw(",\"generation\":");
    pen.number(view.generation);
    pen.raw(",\"versions\":");
    let own: Vec<(usize, &VersionView)> = view.versions.iter().enumerate().collect();
    pen.list(&own, |pen, (at, one)| {
        pen.raw("{");
        version(pen, one, of(*at));
    });
    if !view.lookups.is_empty() {
        pen.raw(",\"lookups\":");
        lookups(pen, view, of);
    }
    more(pen);
    pen.raw("}");
}

/// The look-up keys, each with its versions.
fn lookups(pen: &mut Pen, view: &KeyringView, counted: impl Fn(usize) -> Option<(Tally, Wall)>) {
    let mut at = view.versions.len();
    pen.list(&view.lookups, |pen, lookup| {
        pen.raw("{\"name\":");
        pen.string(&lookup.name.to_string());
        pen.raw(",\"versions\":");
        pen.list(&lookup.versions, |pen, one| {
            pen.raw("{\"number\":");
            pen.number(one.number.into());
            if let Some(role) = one.role {
                pen.raw(",\"role\":");
                pen.string(role.name());
            }
            pen.raw(",");
            version(pen, &one.version, counted(at));
            at += 1;
        });
        pen.raw("}");
    });
}

fn limits(pen: &mut Pen, limits: &KeyLimits) {
    let KeyLimits { cryptoperiod, messages, bytes, offline_max, escrow: _ } = limits;
    let all = [
        ("cryptoperiod_days", cryptoperiod.map(|period| period.as_secs() / 86_400)),
        ("messages", *messages),
        ("bytes", *bytes),
        ("offline_max_seconds", offline_max.map(|time| time.as_secs())),
    ];
    let mut lead = ",\"limits\":{\"";
    for (name, value) in all {
        let Some(value) = value else { continue };
        pen.raw(lead);
        pen.raw(name);
        pen.raw("\":");
        pen.number(value);
        lead = ",\"";
    }
    if lead == ",\"" {
        pen.raw("}");
    }
}

/// Its fields, up to the closing brace.
fn version(pen: &mut Pen, version: &VersionView, counted: Option<(Tally, Wall)>) {
    pen.raw("\"id\":");
    pen.string(&version.id.to_string());
    pen.raw(",\"state\":");
    pen.string(state(version.state));
    time(pen, ",\"since\":", Some(version.since));
    pen.raw(",\"reason\":");
    pen.string(version.reason.code());
    pen.raw(",\"by\":");
    pen.string(version.by.name());
    if let Some(its) = version.suite {
        pen.raw(",\"suite\":");
        pen.string(suite(its));
    }
    time(pen, ",\"created\":", Some(version.created));
    time(pen, ",\"activated\":", version.activated);
    time(pen, ",\"expires\":", version.expires);
    time(pen, ",\"destroy_at\":", version.destroy_at);
    pen.raw(",\"keks\":");
    pen.list(&version.keks, |pen, kek| pen.string(kek));
    if let Some((used, now)) = counted {
        let Tally { messages, bytes, opened } = used;
        if let Some(expires) = version.expires {
            days_left(pen, expires, now);
        }
        pen.raw(",\"messages\":");
        pen.number(messages);
        pen.raw(",\"bytes\":");
        pen.number(bytes);
        time(pen, ",\"last_opened\":", (opened.0 > 0).then(|| Wall(u64::from(opened.0).saturating_mul(DAY))));
    }
    pen.raw("}");
}

/// Whole days, rounded down; below zero once the period has ended.
pub(super) fn days_left(pen: &mut Pen, expires: Wall, now: Wall) {
    pen.raw(",\"days_left\":");
    match expires.0.checked_sub(now.0) {
        Some(left) => pen.number(left / DAY),
        None => {
            pen.raw("-");
            pen.number(now.0.saturating_sub(expires.0).div_ceil(DAY));
        }
    }
}

/// In microseconds.
const DAY: u64 = 86_400_000_000;

pub(super) fn time(pen: &mut Pen, field: &str, at: Option<Wall>) {
    if let Some(at) = at {
        pen.raw(field);
        pen.string(&at.rfc3339_micros());
    }
}

const fn suite(suite: Suite) -> &'static str {
    match suite {
        Suite::Xaes => "xaes-256-gcm",
        Suite::XaesCommitted => "xaes-256-gcm-committed",
    }
}

const fn state(state: KeyState) -> &'static str {
    match state {
        KeyState::PreActive => "pre_active",
        KeyState::Active => "active",
        KeyState::Suspended => "suspended",
        KeyState::Deactivated => "deactivated",
        KeyState::Compromised => "compromised",
        KeyState::Destroyed => "destroyed",
    }
}
