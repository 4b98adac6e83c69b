//! Which HTTP status does each code have? One exhaustive match, and the table `docs/errors.md` made from it.

use http::StatusCode;

use crate::service::Code;

/// The status of a code.
pub const fn of(code: Code) -> StatusCode {
    match code {
        Code::MalformedRequest
        | Code::MalformedValue
        | Code::MalformedItem
        | Code::InvalidContext
        | Code::ContextMissing
        | Code::PurposeMissing => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Denied | Code::ForbiddenOrigin | Code::NotApproved => StatusCode::FORBIDDEN,
        Code::NotFound | Code::NoSuchKey => StatusCode::NOT_FOUND,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::KeyringExists
        | Code::KeyState
        | Code::InUse
        | Code::NotDue
        | Code::Conflict
        | Code::CeremonyRequired
        | Code::NoCustody
        | Code::Separation
        | Code::CeremonyState
        | Code::PolicyRefused => StatusCode::CONFLICT,
        Code::TooLarge | Code::TooManyItems => StatusCode::PAYLOAD_TOO_LARGE,
        Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::CannotOpen | Code::NotText => StatusCode::UNPROCESSABLE_ENTITY,
        Code::Locked => StatusCode::LOCKED,
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::Internal | Code::KeyDamaged => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// Whether the answer says `Retry-After`.
pub const fn retry(code: Code) -> bool {
    matches!(code, Code::RateLimited | Code::Unavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");

    fn markdown() -> String {
        let mut text = String::from(
            "# Errors\n\nEvery no is `application/problem+json` (RFC 9457): `type`, `title`, `status`, `code`, `advice`, \
             `request_id`, and a `detail`\nwhere there is more to say. In a batch the same object stands in the item's \
             place as `error`, without a request id. Codes are\nstable and never reused; decide by `code`, not by the \
             texts. No error repeats a value of the request.\n\nThis file is generated from the list in the code; a \
             test compares them.\n\n| code | status | meaning | what to do |\n|---|--:|---|---|\n",
        );
        for code in Code::ALL {
            let (name, status) = (code.as_str(), of(*code).as_u16());
            let retry = if retry(*code) { " (`Retry-After`)" } else { "" };
            text += &format!("| `{name}` | {status}{retry} | {} | {} |\n", code.title(), code.advice());
        }
        text
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test that keeps the file current also writes it when asked to")]
    fn the_error_table_in_docs_is_current() {
        let wanted = markdown();
        if std::env::var_os("KEYWARD_REGENERATE").is_some() {
            std::fs::write(FILE, &wanted).unwrap();
        }
        let found = std::fs::read_to_string(FILE).unwrap_or_default();
        let differ = wanted.lines().zip(found.lines().chain(std::iter::repeat(""))).find(|(a, b)| a != b);
        assert_eq!(differ, None, "docs/errors.md is not current; run this test with KEYWARD_REGENERATE=1");
        assert_eq!(wanted, found);
    }

    #[test]
    fn every_code_is_listed_once_under_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        // The compiler makes `of` complete; this makes `ALL` complete.
        assert_eq!(Code::ALL.len(), Code::Internal as usize + 1);
        for (at, code) in Code::ALL.iter().enumerate() {
            assert_eq!(*code as usize, at, "{code:?}");
        }
    }
}
