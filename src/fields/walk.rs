//! Which values does a plan mean in this document? One pass in document order; every nested resource starts anew.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use super::document::{Document, Kind, Span, Value};
use super::error::{FieldsError, Position};
use super::place::{self, MAX_PLACE_BYTES, Step};
use super::plan::{Plan, Symbol, Trie};
use super::references::Targets;
use super::select::Gap;
use super::selector::is_type;

/// The resources that values were selected in so far; one set a document, whatever its number of lines.
pub(super) type Resources = BTreeSet<Arc<str>>;

/// A position that a rule means, or that the map should say something about.
pub(super) struct Found {
    pub(super) span: Span,
    pub(super) resource: Arc<str>,
    pub(super) path: String,
    /// The index of the rule in the plan; none for what no rule foresees.
    pub(super) rule: Option<usize>,
    /// Why the value cannot be sealed; none for a string, which can.
    pub(super) gap: Option<Gap>,
}

/// All positions that the plan means, in document order.
pub(super) fn walk(document: &Document<'_>, plan: &Plan, resources: &mut Resources) -> Result<Vec<Found>, FieldsError> {
    let targets = Targets::default();
    let bytes = document.text().as_bytes();
    let mut walk = Walk { bytes, plan, targets, active: Vec::new(), steps: Vec::new(), resources, found: Vec::new() };
    walk.resource(document.root(), None)?;
    Ok(walk.found)
}

struct Walk<'d, 'p> {
    bytes: &'d [u8],
    plan: &'p Plan,
    targets: Targets<'d>,
    /// The automaton's active nodes, those of each open element behind those of its parent.
    active: Vec<usize>,
    /// The way from the present resource to the present element.
    steps: Vec<Step<'d>>,
    resources: &'p mut Resources,
    found: Vec<Found>,
}

/// The resource that the walk is in.
struct Scope<'p> {
    kind: String,
    name: Arc<str>,
    id: Id,
    trie: &'p Trie,
    start: usize,
    has_selected: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Id {
    Known,
    Missing,
}

impl<'d, 'p> Walk<'d, 'p> {
    fn resource(&mut self, value: Value<'d>, container: Option<&Scope<'p>>) -> Result<(), FieldsError> {
        let mut scope = self.scope(value, container)?;
        if container.is_none() {
            self.targets.enter_root(value);
        }
        if scope.kind == "Bundle" {
            self.targets.enter_bundle(value);
        }
        let steps = mem::take(&mut self.steps);
        let from = self.active.len();
        scope.trie.enter(&mut self.active);
        self.report_unreviewed(&scope, value);
        self.object(&mut scope, value, from..self.active.len())?;
        self.active.truncate(from);
        self.steps = steps;
        Ok(())
    }

    /// FLD-12: the id of the document comes before the one that the caller gives.
    fn scope(&self, value: Value<'d>, container: Option<&Scope<'p>>) -> Result<Scope<'p>, FieldsError> {
        let kind = value.member(b"resourceType").and_then(Value::string).filter(|text| is_type(text));
        let kind = kind.and_then(|text| String::from_utf8(text.into_owned()).ok());
        let kind = kind.ok_or_else(|| FieldsError::ResourceTypeMissing { at: self.position(value.span().start) })?;
        let own = value.member(b"id").and_then(Value::string).filter(|id| !id.is_empty());
        let given = self.plan.resource_id().filter(|_| value.is_root()).map(|id| Cow::Borrowed(id.as_bytes()));
        let id = own.or(given);
        let known = id.is_some() && container.is_none_or(|outer| outer.id == Id::Known);
        let outer = container.map(|outer| &*outer.name);
        Ok(Scope {
            name: place::resource(outer, &kind, &id.unwrap_or_default()).into(),
            id: if known { Id::Known } else { Id::Missing },
            trie: self.plan.trie(&kind),
            start: value.span().start,
            has_selected: false,
            kind,
        })
    }

    fn report_unreviewed(&mut self, scope: &Scope<'p>, value: Value<'d>) {
        if let Some(kind) = value.member(b"resourceType").filter(|_| !self.plan.has_reviewed(&scope.kind)) {
            self.report(scope, kind, "resourceType".to_owned(), None, Gap::UnreviewedType);
        }
    }

    fn object(&mut self, scope: &mut Scope<'p>, value: Value<'d>, active: Range<usize>) -> Result<(), FieldsError> {
        for member in value.children() {
            let name = member.key().unwrap_or_default();
            if self.nested(scope, &name, member)? {
                continue;
            }
            let symbol = self.plan.symbol(&name);
            let is_extension = matches!(&*name, b"extension" | b"modifierExtension");
            if &*name == b"resourceType" && !self.steps.is_empty() {
                self.report(scope, member, place::path(&self.steps), None, Gap::MisplacedResource);
            }
            self.steps.push(Step::Name(name));
            self.element(scope, member, Element { symbol, is_extension }, active.clone())?;
            self.steps.pop();
        }
        Ok(())
    }

    /// Walks the resources that this member holds, if it is one of the places where FHIR has resources (FLD-11).
    fn nested(&mut self, scope: &Scope<'p>, name: &[u8], member: Value<'d>) -> Result<bool, FieldsError> {
        let within = match name {
            b"contained" if self.steps.is_empty() => Some(scope),
            b"resource" | b"outcome" => None,
            _ => return Ok(false),
        };
        let holds_resources = matches!(&*scope.kind, "Bundle" | "Parameters") && name == b"resource";
        let must = within.is_some() || holds_resources;
        let is_resource = |value: Value<'d>| must || value.member(b"resourceType").is_some();
        let candidates: Vec<Value<'d>> = match member.kind() {
            Kind::Array => member.children().collect(),
            _ => vec![member],
        };
        if candidates.is_empty() || !candidates.iter().all(|c| c.kind() == Kind::Object && is_resource(*c)) {
            return Ok(false);
        }
        for resource in candidates {
            self.resource(resource, within)?;
        }
        Ok(true)
    }

    /// One element, or each item of one (FLD-21: brackets in a selector do not ask for an array).
    fn element(
        &mut self,
        scope: &mut Scope<'p>,
        value: Value<'d>,
        element: Element,
        parent: Range<usize>,
    ) -> Result<(), FieldsError> {
        if value.kind() == Kind::Array {
            for (index, item) in value.children().enumerate() {
                self.steps.push(Step::Index(index));
                self.element(scope, item, element, parent.clone())?;
                self.steps.pop();
            }
            return Ok(());
        }
        let from = self.active.len();
        let targets = &self.targets;
        let holds = |condition: &_| targets.holds(condition, value);
        let rule = scope.trie.advance(element.symbol, parent, &mut self.active, holds);
        if let Some(rule) = rule {
            self.meet(scope, value, rule)?;
        }
        if value.kind() == Kind::Object {
            let depth = self.steps.len();
            if element.is_extension {
                let url = value.member(b"url").and_then(Value::string).unwrap_or_default();
                self.steps.push(Step::Url(url));
            }
            self.object(scope, value, from..self.active.len())?;
            self.steps.truncate(depth);
        }
        self.active.truncate(from);
        Ok(())
    }

    /// A rule ends at this value.
    fn meet(&mut self, scope: &mut Scope<'p>, value: Value<'d>, rule: usize) -> Result<(), FieldsError> {
        let gap = match value.kind() {
            Kind::String => return self.select(scope, value, rule),
            Kind::Number => Gap::Number,
            Kind::Boolean => Gap::Boolean,
            Kind::Object | Kind::Array => Gap::Structure,
            Kind::Null => return Ok(()),
        };
        self.report(scope, value, place::path(&self.steps), Some(rule), gap);
        Ok(())
    }

    fn select(&mut self, scope: &mut Scope<'p>, value: Value<'d>, rule: usize) -> Result<(), FieldsError> {
        let span = value.span();
        let path = place::path(&self.steps);
        if scope.id == Id::Missing {
            let at = self.position(scope.start);
            return Err(FieldsError::ResourceIdMissing { kind: scope.kind.clone(), at });
        }
        if scope.name.len() + path.len() > MAX_PLACE_BYTES {
            return Err(FieldsError::PlaceTooLong { at: self.position(span.start) });
        }
        // FLD-13: one place, one value.
        if !scope.has_selected && !self.resources.insert(Arc::clone(&scope.name)) {
            let at = self.position(scope.start);
            return Err(FieldsError::ResourceTwice { kind: scope.kind.clone(), at });
        }
        scope.has_selected = true;
        let resource = Arc::clone(&scope.name);
        self.found.push(Found { span, resource, path, rule: Some(rule), gap: None });
        Ok(())
    }

    fn report(&mut self, scope: &Scope<'p>, value: Value<'d>, path: String, rule: Option<usize>, gap: Gap) {
        let resource = Arc::clone(&scope.name);
        self.found.push(Found { span: value.span(), resource, path, rule, gap: Some(gap) });
    }

    fn position(&self, offset: usize) -> Position {
        Position::of(self.bytes, offset)
    }
}

/// What the members and items of one name share.
#[derive(Clone, Copy)]
struct Element {
    symbol: Option<Symbol>,
    is_extension: bool,
}
