//! What are the values of a scanned document, and where do they stand? Spans over the bytes, nothing is converted.

use std::borrow::Cow;

use super::text::unescape;

/// The byte range of a token, both quotes of a string included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    pub(super) const fn moved(self, base: usize) -> Self {
        Self { start: self.start + base, end: self.end + base }
    }
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `{...}`
    Object,
    /// `[...]`
    Array,
    /// `"..."`
    String,
    /// A number, whose text is kept.
    Number,
    /// `true` or `false`
    Boolean,
    /// `null`
    Null,
}

/// One value; offsets have 32 bits so that a large document's nodes stay small.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// The member's name with its quotes; empty for items of arrays and for the root.
    pub(super) key: (u32, u32),
    pub(super) start: u32,
    pub(super) end: u32,
    /// Index of the first node that does not lie within this one.
    pub(super) after: u32,
}

/// A scanned document. Its nodes stand in document order, a container before what it contains.
#[derive(Debug)]
pub struct Document<'a> {
    text: &'a str,
    nodes: Vec<Node>,
}

/// One value of a document.
#[derive(Debug, Clone, Copy)]
pub struct Value<'d> {
    document: &'d Document<'d>,
    node: &'d Node,
    index: usize,
}

impl<'a> Document<'a> {
    /// The caller has scanned `text` into `nodes`, of which there is at least one.
    pub(super) const fn new(text: &'a str, nodes: Vec<Node>) -> Self {
        Self { text, nodes }
    }

    /// The whole text.
    pub const fn text(&self) -> &'a str {
        self.text
    }

    /// The outermost value.
    pub fn root(&self) -> Value<'_> {
        self.value(0).expect("the scanner makes a node for the root of every document that it accepts")
    }

    /// All values in document order.
    pub fn values(&self) -> impl Iterator<Item = Value<'_>> {
        (0..self.nodes.len()).filter_map(|index| self.value(index))
    }

    /// What stands between the quotes of the string at `span`.
    pub(super) fn body(&self, span: Span) -> &'a str {
        self.slice(span.start + 1, span.end - 1)
    }

    fn value(&self, index: usize) -> Option<Value<'_>> {
        self.nodes.get(index).map(|node| Value { document: self, node, index })
    }

    fn slice(&self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).expect("the scanner cut this text at its ASCII delimiters")
    }
}

impl<'d> Value<'d> {
    /// What it is.
    pub const fn kind(self) -> Kind {
        self.node.kind
    }

    /// Where it stands.
    pub const fn span(self) -> Span {
        Span { start: self.node.start as usize, end: self.node.end as usize }
    }

    /// Its bytes as they stand, quotes included.
    pub fn raw(self) -> &'d str {
        self.document.slice(self.span().start, self.span().end)
    }

    /// The name of this member, unescaped; `None` for items and for the root.
    pub fn key(self) -> Option<Cow<'d, [u8]>> {
        let (start, end) = (self.node.key.0 as usize, self.node.key.1 as usize);
        (end > start).then(|| unescape(self.document.slice(start + 1, end - 1)))
    }

    /// The text of a string, unescaped; `None` for everything else.
    pub fn string(self) -> Option<Cow<'d, [u8]>> {
        (self.node.kind == Kind::String).then(|| unescape(self.document.body(self.span())))
    }

    /// The members of an object or the items of an array.
    pub fn children(self) -> impl Iterator<Item = Value<'d>> {
        let mut next = self.index + 1;
        std::iter::from_fn(move || {
            let child = self.document.value(next).filter(|_| next < self.node.after as usize)?;
            next = child.node.after as usize;
            Some(child)
        })
    }

    /// The member of that name; `None` also where this is no object.
    pub fn member(self, name: &[u8]) -> Option<Value<'d>> {
        self.children().filter(|_| self.node.kind == Kind::Object).find(|child| child.key().as_deref() == Some(name))
    }

    /// Whether this is the outermost value.
    pub(super) const fn is_root(self) -> bool {
        self.index == 0
    }
}
