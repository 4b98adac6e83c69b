//! How are the versions of key-encryption keys told? `{keks: [{kek, version, wraps, since, expires, days_left, period}]}`.

use super::keyrings::{days_left, time};
use super::pen::Pen;
use crate::clock::Wall;
use crate::service::KekUse;

pub(super) fn uses(pen: &mut Pen, uses: &[KekUse], now: Wall) {
    pen.raw("{\"keks\":");
    pen.list(uses, |pen, one| {
        let KekUse { kek, version, wraps, since, expires, period } = one;
        pen.raw("{\"kek\":");
        pen.string(kek.as_str());
        pen.raw(",\"version\":");
        pen.number((*version).into());
        pen.raw(",\"wraps\":");
        pen.raw(if *wraps { "true" } else { "false" });
        time(pen, ",\"since\":", Some(*since));
        time(pen, ",\"expires\":", Some(*expires));
        days_left(pen, *expires, now);
        pen.raw(",\"period\":");
        pen.string(period.name());
        pen.raw("}");
    });
    pen.raw("}");
}
