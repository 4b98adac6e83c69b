//! The Common Event Format, version 0: a header of seven fields between bars, then pairs.

use super::{PRODUCT, Told, VERSION};

pub(super) fn line(told: &Told<'_>) -> String {
    let name = told.event.name();
    let head = [PRODUCT, PRODUCT, VERSION, name, &name.replace(['.', '_'], " ")].map(header).join("|");
    let mut line = format!("CEF:0|{head}|{}|", told.weight());
    let (actor, kind) = told.actor();
    let counted = told.record.get("groups").and_then(serde_json::Value::as_array);
    let items: u64 = counted.into_iter().flatten().filter_map(|group| group.get("done")?.as_u64()).sum();
    let pairs = [
        ("rt", Some((told.time() / 1_000).to_string())),
        ("externalId", Some(told.id())),
        ("fileHash", Some(told.leaf.clone())),
        ("outcome", Some(told.outcome().to_owned())),
        ("reason", told.text("reason").map(str::to_owned)),
        ("suser", Some(actor.to_owned())),
        ("spriv", Some(kind.to_owned())),
        ("sourceServiceName", told.text("source").map(str::to_owned)),
        ("act", Some(name.to_owned())),
        ("cs1Label", told.keyring().map(|_| "keyring".to_owned())),
        ("cs1", told.keyring().map(str::to_owned)),
        ("cs2Label", told.key_version().map(|_| "keyVersion".to_owned())),
        ("cs2", told.key_version().map(str::to_owned)),
        ("cs3Label", told.fact("ceremony").map(|_| "ceremony".to_owned())),
        ("cs3", told.fact("ceremony").map(str::to_owned)),
        ("cs4Label", told.text("purpose").map(|_| "purpose".to_owned())),
        ("cs4", told.text("purpose").map(str::to_owned)),
        ("cs5Label", told.text("request").map(|_| "request".to_owned())),
        ("cs5", told.text("request").map(str::to_owned)),
        ("cs6Label", Some("record".to_owned())),
        ("cs6", Some(told.record.to_string())),
        ("cn1Label", (items > 0).then(|| "items".to_owned())),
        ("cn1", (items > 0).then(|| items.to_string())),
    ];
    let pairs =
        pairs.iter().filter_map(|(name, value)| value.as_ref().map(|value| format!("{name}={}", extension(value))));
    line.push_str(&pairs.collect::<Vec<_>>().join(" "));
    line
}

fn header(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|")
}

/// Records hold neither line feeds nor carriage returns.
fn extension(text: &str) -> String {
    text.replace('\\', "\\\\").replace('=', "\\=")
}
