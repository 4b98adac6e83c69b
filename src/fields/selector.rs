//! Which elements does a rule's path mean? The grammar of selectors (FLD-20 to FLD-24), parsed once and strictly.

/// A parsed path such as `Patient|Person.identifier[type=MR].value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selector {
    pub(super) types: Types,
    pub(super) segments: Vec<Segment>,
}

/// The resources that a selector looks into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Types {
    Any,
    Named(Vec<String>),
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    /// `**`: any number of elements, also none.
    AnyDepth,
    /// A name, or `*` for every name, and what the element must hold.
    Element { name: Option<String>, conditions: Vec<Condition> },
}

/// What an element must hold to be meant. None of it may ever be sealed, or opening would not find it (FLD-24).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Condition {
    /// `[type=MR]`: a coding of its `type` has the code.
    TypeCode(String),
    /// `[system=...]`
    System(String),
    /// `[url=...]`
    Url(String),
    /// `[reference=Patient]`: it refers to a resource of the type.
    Reference(String),
}

/// Elements that conditions and places are read from: sealing one would change what is selected.
const NEVER_SELECTED: [&str; 7] = ["resourceType", "id", "system", "code", "reference", "type", "fullUrl"];

impl Selector {
    /// Parses a path; the error says what is wrong with it.
    pub(super) fn parse(path: &str) -> Result<Self, &'static str> {
        let (types, mut rest) = path.split_once('.').ok_or("it needs a resource type and an element")?;
        let types = parse_types(types)?;
        let mut segments = Vec::new();
        loop {
            let (segment, tail) = parse_segment(rest)?;
            segments.push(segment);
            match tail.strip_prefix('.') {
                Some(more) => rest = more,
                None if tail.is_empty() => break,
                None => return Err("segments are joined by one dot"),
            }
        }
        check_segments(&segments)?;
        Ok(Self { types, segments })
    }
}

fn parse_types(text: &str) -> Result<Types, &'static str> {
    if text == "*" {
        return Ok(Types::Any);
    }
    let types: Vec<String> = text.split('|').map(str::to_owned).collect();
    if types.iter().all(|t| is_type(t.as_bytes())) {
        return Ok(Types::Named(types));
    }
    Err("a resource type is letters only; several are joined by |, all are *")
}

/// Whether the bytes are a FHIR resource type.
pub(super) fn is_type(text: &[u8]) -> bool {
    (1..=64).contains(&text.len()) && text.iter().all(u8::is_ascii_alphabetic)
}

fn parse_segment(text: &str) -> Result<(Segment, &str), &'static str> {
    if let Some(rest) = text.strip_prefix("**") {
        return Ok((Segment::AnyDepth, rest));
    }
    let end = text.find(['.', '[']).unwrap_or(text.len());
    let (name, mut rest) = text.split_at_checked(end).ok_or("it is cut within a character")?;
    let mut conditions = Vec::new();
    while let Some(open) = rest.strip_prefix('[') {
        let (inside, tail) = open.split_once(']').ok_or("a bracket is not closed")?;
        if !inside.is_empty() {
            conditions.push(parse_condition(inside)?);
        }
        rest = tail;
    }
    conditions.sort();
    let name = match name {
        "*" => None,
        _ if is_element(name) => Some(name.to_owned()),
        _ => return Err("an element name is letters and digits, with _ before it for a primitive's extensions"),
    };
    Ok((Segment::Element { name, conditions }, rest))
}

fn is_element(name: &str) -> bool {
    let name = name.strip_prefix('_').unwrap_or(name);
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn parse_condition(text: &str) -> Result<Condition, &'static str> {
    match text.split_once('=') {
        Some((_, "")) => Err("a condition needs a value"),
        Some(("type", code)) => Ok(Condition::TypeCode(code.to_owned())),
        Some(("system", system)) => Ok(Condition::System(system.to_owned())),
        Some(("url", url)) => Ok(Condition::Url(url.to_owned())),
        Some(("reference", kind)) if is_type(kind.as_bytes()) => Ok(Condition::Reference(kind.to_owned())),
        _ => Err("a condition is [type=CODE], [system=URI], [url=URL] or [reference=TYPE]"),
    }
}

fn check_segments(segments: &[Segment]) -> Result<(), &'static str> {
    if segments.windows(2).any(|pair| matches!(pair, [Segment::AnyDepth, Segment::AnyDepth])) {
        return Err("** after ** means nothing more");
    }
    let Some((Segment::Element { name: Some(last), conditions }, before)) = segments.split_last() else {
        return Err("the last segment names an element");
    };
    if !conditions.is_empty() {
        return Err("the last segment takes no condition: a text has no members");
    }
    let in_extension = match before.last() {
        Some(Segment::Element { name: Some(name), .. }) => name == "extension" || name == "modifierExtension",
        Some(_) => true,
        None => false,
    };
    if NEVER_SELECTED.contains(&last.as_str()) || (last == "url" && in_extension) {
        return Err("sealing this element would hide what selectors and places are read from");
    }
    Ok(())
}
