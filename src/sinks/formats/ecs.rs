//! The Elastic Common Schema, 9.0. It has no key and no ceremony: the record stands under `keyward`.

use serde_json::{Value, json};

use super::{PRODUCT, Told, VERSION};

pub(super) fn line(told: &Told<'_>) -> Value {
    let (category, kind) = told.codes.ecs;
    let (actor, role) = told.actor();
    let outcome = told.done().map_or("unknown", |done| if done { "success" } else { "failure" });
    let kinds = match told.outcome() {
        "denied" | "refused" => vec![kind, "denied"],
        _ => vec![kind],
    };
    let mut line = json!({
        "@timestamp": told.rfc3339(),
        "ecs": { "version": "9.0.0" },
        "message": format!("{} {}", told.event.name(), told.outcome()),
        "event": {
            "id": told.id(),
            "sequence": told.index,
            "hash": told.leaf,
            "kind": if told.weight() >= 9 { "alert" } else { "event" },
            "category": [category],
            "type": kinds,
            "action": told.event.name(),
            "outcome": outcome,
            "severity": told.weight(),
            "module": PRODUCT,
            "dataset": "keyward.audit",
        },
        "user": { "name": actor, "roles": [role] },
        "service": { "name": PRODUCT, "type": PRODUCT, "version": VERSION },
        "keyward": { "origin": told.origin, "record": told.record },
    });
    if let (Some(reason), Some(event)) = (told.text("reason"), line.get_mut("event").and_then(Value::as_object_mut)) {
        event.insert("reason".to_owned(), json!(reason));
    }
    line
}
