//! FHIR R4 `AuditEvent`, with the codes of DICOM PS3.16. There is no code of DICOM for keys: the event's own name is a further
//! subtype, and the fields of the record stand as details of the entity.

use serde_json::{Value, json};

use super::{PRODUCT, Told, codes};

const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";
/// The codes that are ours.
const OURS: &str = "urn:keyward:event";
/// HL7 v3 purposes of use.
const PURPOSES: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
const OBJECT_TYPES: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const OBJECT_ROLES: &str = "http://terminology.hl7.org/CodeSystem/object-role";

pub(super) fn line(told: &Told<'_>) -> Value {
    let (kind, subtype) = told.codes.dicom;
    let dicom = |code: &str| json!({ "system": DICOM, "code": code, "display": codes::dicom_words(code) });
    let mut subtypes = vec![json!({ "system": OURS, "code": told.event.name() })];
    if subtype != codes::NONE {
        subtypes.insert(0, dicom(subtype));
    }
    let (actor, role) = told.actor();
    let mut event = json!({
        "resourceType": "AuditEvent",
        "type": dicom(kind),
        "subtype": subtypes,
        "action": told.codes.action,
        "recorded": told.rfc3339(),
        "outcome": outcome(told),
        "agent": [{
            "who": { "display": actor },
            "name": actor,
            "requestor": role != "sidecar",
            "role": [{ "text": role }],
        }],
        "source": { "site": told.origin, "observer": { "display": PRODUCT } },
        "entity": [{
            "what": { "identifier": { "system": "urn:keyward:record", "value": told.id() } },
            // A system object, in its role as a security resource.
            "type": { "system": OBJECT_TYPES, "code": "2", "display": "System Object" },
            "role": { "system": OBJECT_ROLES, "code": "13", "display": "Security Resource" },
            "name": told.keyring().or_else(|| told.fact("kek")).unwrap_or(PRODUCT),
            "detail": [
                { "type": "leaf", "valueString": told.leaf },
                { "type": "record", "valueString": told.record.to_string() },
            ],
        }],
    });
    let Some(fields) = event.as_object_mut() else { return event };
    if let Some(purpose) = told.text("purpose") {
        fields.insert("purposeOfEvent".to_owned(), json!([{ "coding": [{ "system": PURPOSES, "code": purpose }] }]));
    }
    if let Some(reason) = told.text("reason") {
        fields.insert("outcomeDesc".to_owned(), json!(reason));
    }
    event
}

/// Success, minor failure (somebody said no), serious failure.
fn outcome(told: &Told<'_>) -> &'static str {
    match told.outcome() {
        "done" | "intent" => "0",
        "failed" => "8",
        _ => "4",
    }
}
