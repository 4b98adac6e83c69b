//! The Open Cybersecurity Schema Framework, 1.8.0: Entity Management, Datastore Activity, Application Lifecycle and Event Log
//! Activity. The record itself stands in `unmapped`.

use serde_json::{Map, Value, json};

use super::codes::Class;
use super::{PRODUCT, Told, VERSION};

/// The version of the schema.
const SCHEMA: &str = "1.8.0";

pub(super) fn line(told: &Told<'_>) -> Value {
    let class = told.codes.class as u32;
    let mut event = Map::new();
    let mut put = |name: &str, value: Value| event.insert(name.to_owned(), value);
    put("activity_id", json!(told.codes.activity));
    put("activity_name", json!(told.event.name()));
    put("category_uid", json!(class / 1000));
    put("class_uid", json!(class));
    put("type_uid", json!(class * 100 + u32::from(told.codes.activity)));
    put("severity_id", json!(severity(told.weight())));
    put("status_id", json!(told.done().map_or(0, |done| if done { 1 } else { 2 })));
    if let Some(reason) = told.text("reason") {
        put("status_code", json!(reason));
    }
    put("time", json!(told.time() / 1_000));
    put("message", json!(format!("{} {}", told.event.name(), told.outcome())));
    put("metadata", metadata(told));
    put("raw_data_hash", json!({ "algorithm_id": 3, "algorithm": "SHA-256", "value": told.leaf }));
    put("actor", actor(told));
    put("unmapped", json!({ "record": told.record }));
    let name = told.keyring().or_else(|| told.fact("kek")).or_else(|| told.fact("person")).unwrap_or(PRODUCT);
    match told.codes.class {
        Class::Entity => put("entity", json!({ "name": name, "type_id": 99, "type": kind(told) })),
        Class::Data => {
            put("src_endpoint", json!({ "name": told.text("source").unwrap_or("internal") }));
            put("databucket", json!({ "name": name, "type_id": 99, "type": "Keyring" }))
        }
        Class::Application => put("app", product()),
        Class::Log => put("log_name", json!(told.origin)),
    };
    Value::Object(event)
}

fn metadata(told: &Told<'_>) -> Value {
    let mut metadata = json!({
        "version": SCHEMA,
        "uid": told.id(),
        "log_name": told.origin,
        "event_code": told.event.name(),
        "product": product(),
    });
    if let (Some(correlation), Some(fields)) = (told.correlation(), metadata.as_object_mut()) {
        fields.insert("correlation_uid".to_owned(), json!(correlation));
    }
    metadata
}

fn product() -> Value {
    json!({ "name": PRODUCT, "vendor_name": PRODUCT, "version": VERSION })
}

fn actor(told: &Told<'_>) -> Value {
    let (name, kind) = told.actor();
    let type_id = match kind {
        "sidecar" => return json!({ "app_name": PRODUCT }),
        "service" => 4,
        "custodian" | "operator" => 2,
        "auditor" => 1,
        _ => 0,
    };
    json!({ "user": { "name": name, "type_id": type_id, "type": kind } })
}

/// What is managed.
fn kind(told: &Told<'_>) -> &'static str {
    let name = told.event.name();
    match name.split_once('.').map_or(name, |(noun, _)| noun) {
        "key" | "keyring" | "lookup" | "partition" | "kek" | "cache" => "Cryptographic Key",
        "custodian" | "custody" => "Key Custodian",
        "ceremony" | "grant" | "lock" => "Key Ceremony",
        _ => "Key Management Setting",
    }
}

/// Informational to critical.
const fn severity(weight: u8) -> u8 {
    match weight {
        0..=3 => 1,
        4..=5 => 2,
        6..=7 => 3,
        8..=9 => 4,
        _ => 5,
    }
}
