//! What does a question about a subject say?

use crate::names::{MAX_CONTEXT_BYTES, Tenant};
use crate::service::{Operation, Refusal};

use super::batch::unknown;
use super::json::{Fault, once};
use super::keys::read;

/// Reads `{subject, tenant?, from?}`.
pub fn parse_subject(body: &[u8]) -> Result<Operation, Refusal> {
    read(body, |reader| {
        let (mut subject, mut tenant, mut from) = (None, None, None);
        let start = reader.at();
        reader.object(|reader, key| match &*key.text() {
            "subject" => {
                let at = reader.at();
                let text = reader.string()?.text().into_owned();
                if text.is_empty() || text.len() > MAX_CONTEXT_BYTES {
                    return Err(Fault::malformed("subject is the value of a context key", at));
                }
                once(&mut subject, text, key)
            }
            "tenant" => {
                let at = reader.at();
                let named = reader.string()?.text().parse::<Tenant>();
                once(&mut tenant, named.map_err(|_| Fault::malformed("tenant is the name of a tenant", at))?, key)
            }
            "from" => once(&mut from, reader.number(u64::MAX)?, key),
            _ => Err(unknown("subject, tenant and from", key)),
        })?;
        let subject = subject.ok_or_else(|| Fault::malformed("the field subject is missing", start))?;
        Ok(Operation::LookUpSubject { about: (tenant.unwrap_or_default(), subject), from: from.unwrap_or(0) })
    })
}
