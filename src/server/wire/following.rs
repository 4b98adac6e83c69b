//! How is it told how far a change has come? `{change, other_sidecars, not_followed: [{sidecar, followed, heard?, until}]}`.

use super::keyrings::time;
use super::pen::Pen;
use crate::service::Following;

pub(super) fn following(pen: &mut Pen, following: &Following) {
    pen.raw("{");
    fields(pen, following);
    pen.raw("}");
}

/// The same inside a larger object, without its braces.
pub(super) fn fields(pen: &mut Pen, Following { change, others, behind }: &Following) {
    pen.raw("\"change\":");
    pen.number(*change);
    pen.raw(",\"other_sidecars\":");
    pen.number(*others);
    pen.raw(",\"not_followed\":");
    pen.list(behind, |pen, one| {
        pen.raw("{\"sidecar\":");
        pen.string(&one.sidecar);
        pen.raw(",\"followed\":");
        pen.number(one.followed);
        time(pen, ",\"heard\":", one.heard);
        time(pen, ",\"until\":", Some(one.until));
        pen.raw("}");
    });
}
